"""Bad input is refused in one clear sentence, before any work is done."""

import json
import shutil

import datasets
import keras
import numpy as np
import pytest

from companion import data, encoders, keras_class, keras_functional, pytorch_class, pytorch_functional
from companion.config import BertCNNConfig
from companion.data import check_texts, load_dataset
from companion.encoders import load_keras_encoder, load_pytorch_encoder, load_tokenizer

BUILD = {
    "pytorch_class": pytorch_class.BertCNN.from_encoder,
    "pytorch_functional": pytorch_functional.from_encoder,
    "keras_class": keras_class.BertCNN.from_encoder,
    "keras_functional": keras_functional.build_bert_cnn,
}
BAD_SETTINGS = [
    ({"kernel_sizes": (3, 0)}, "kernel_sizes must be whole numbers of at least 1"),
    ({"kernel_sizes": ()}, "kernel_sizes must be whole numbers of at least 1"),
    ({"kernel_sizes": (3, 4.0)}, "kernel_sizes must be whole numbers of at least 1"),
    ({"kernel_sizes": (3, -1)}, "kernel_sizes must be whole numbers of at least 1"),
    ({"kernel_sizes": 3}, "kernel_sizes must be whole numbers of at least 1"),
    ({"kernel_sizes": "345"}, "kernel_sizes must be whole numbers of at least 1"),
    ({"kernel_sizes": (3, 3)}, "kernel_sizes must differ from each other"),
    ({"num_filters": 0}, "num_filters must be a whole number of at least 1, not 0"),
    ({"num_filters": 2.5}, "num_filters must be a whole number of at least 1, not 2.5"),
    ({"num_labels": 0}, "num_labels must be a whole number of at least 1, not 0"),
    ({"hidden_units": 0}, "hidden_units must be a whole number of at least 1, not 0"),
    ({"dropout": 1.0}, "dropout must be at least 0 and less than 1, not 1.0"),
    ({"dropout": -0.1}, "dropout must be at least 0 and less than 1, not -0.1"),
    ({"num_filters": True}, "num_filters must be a whole number of at least 1, not True"),
    ({"num_labels": np.int64(0)}, "num_labels must be a whole number of at least 1"),
    ({"kernel_sizes": np.array([3.0, 4.0])}, "kernel_sizes must be whole numbers of at least 1"),
    ({"dropout": "0.5"}, "dropout must be at least 0 and less than 1"),
    ({"dropout": float("nan")}, "dropout must be at least 0 and less than 1, not nan"),
]


def refusal(message, call, *args, **kwargs):
    """The call raises ValueError with the words given, in one line."""
    with pytest.raises(ValueError, match=message) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 400


def write(folder, rows, split="train"):
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


@pytest.mark.parametrize("load", [load_pytorch_encoder, load_keras_encoder])
def test_weights_cut_short_or_missing(load, random_encoder, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(random_encoder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refusal("model.safetensors of .* is damaged or cut short", load, str(folder))
    weights.write_bytes(b"")
    refusal("model.safetensors of .* is damaged or cut short", load, str(folder))
    weights.unlink()
    refusal("has no model.safetensors", load, str(folder))


def test_a_corpus_without_any_label(tmp_path):
    refusal("has no split with labels", load_dataset, write(tmp_path, [{"text": "a film", "label": -1}]))


@pytest.mark.parametrize("config, message", BAD_SETTINGS, ids=str)
def test_settings_that_make_no_model(config, message):
    refusal(message, BertCNNConfig, **config)


@pytest.mark.parametrize("variant", BUILD)
def test_settings_are_refused_before_the_encoder_is_fetched(variant, monkeypatch):
    """The encoder may be a download of 440 MB."""

    def fetch(*args, **kwargs):
        pytest.fail("the encoder was looked for first")

    monkeypatch.setattr(encoders, "find_encoder", fetch)
    refusal("kernel_sizes must be", BUILD[variant], "embedded", kernel_sizes=(0,))


@pytest.mark.parametrize("load", [load_tokenizer, load_pytorch_encoder, load_keras_encoder, *BUILD.values()])
def test_an_unknown_encoder(load):
    for name in ("nobody/no-such-encoder", "no such encoder!", "/no/such/folder"):
        refusal(f"There is no encoder '{name}': it is not 'embedded', no folder of that name is here", load, name)


@pytest.mark.parametrize("load", [load_tokenizer, load_pytorch_encoder, load_keras_encoder, *BUILD.values()])
def test_a_folder_without_config(load, tmp_path):
    refusal("has no config.json: it holds no encoder in Hugging Face layout", load, str(tmp_path))


def test_an_unknown_dataset():
    for name in ("nobody/no-such-dataset", "/no/such/folder"):
        refusal(
            f"There is no dataset '{name}': it is not 'matinee' or 'matinee-more' or 'matinee-hard', "
            "no folder of that name is here",
            load_dataset,
            name,
        )


def test_a_folder_without_data_files(tmp_path):
    (tmp_path / "notes.md").write_text("nothing here")
    refusal("holds no .parquet, .jsonl or .csv file", load_dataset, str(tmp_path))


@pytest.mark.parametrize("missing", ["text", "label"])
def test_a_missing_column(tmp_path, missing):
    row = {"text": "fine", "label": 1, "other": 2}
    del row[missing]
    refusal(f"The split 'train' of .* has no column {missing}", load_dataset, write(tmp_path, [row]))


def test_both_columns_missing(tmp_path):
    refusal("has no column label, text", load_dataset, write(tmp_path, [{"sentence": "fine", "class": 1}]))


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_split(tmp_path, split):
    for name in ("train", "test"):
        rows = datasets.Dataset.from_dict({"text": ["fine"], "label": [1]})
        rows.select([] if name == split else [0]).to_parquet(tmp_path / f"{name}.parquet")
    refusal("empty", load_dataset, str(tmp_path))


def test_a_file_with_nothing_in_it(tmp_path):
    for name in ("train.jsonl", "train.csv"):
        folder = tmp_path / name[-3:]
        folder.mkdir()
        (folder / name).write_text("")
        refusal("empty", load_dataset, str(folder))


@pytest.mark.parametrize("text, kind", [(7, "int"), (None, "NoneType")])
def test_a_text_that_is_no_string(tmp_path, text, kind):
    refusal(f"Text 0 is not a string but {kind}", load_dataset, write(tmp_path, [{"text": text, "label": 1}]))
    refusal(f"Text 1 is not a string but {kind}", check_texts, ["fine", text])


def test_no_text_at_all():
    refusal("There is no text: give at least one", check_texts, [])


@pytest.mark.parametrize("label", [{"sentiment": 1}, [[1], [0]]], ids=str)
def test_labels_that_are_neither_values_nor_lists_of_them(tmp_path, label):
    rows = [{"text": "fine", "label": label}]
    refusal("A label in the split 'train' of .* is not one value", load_dataset, write(tmp_path, rows))


@pytest.mark.parametrize("label, none", [("good", None), (1, -1)])
def test_a_row_without_a_label(tmp_path, label, none):
    rows = [{"text": "fine", "label": label}, {"text": "so so", "label": none}]
    refusal("without a label", load_dataset, write(tmp_path, rows))


def test_the_defaults_are_there():
    assert (data.DEFAULT_DATASET, encoders.DEFAULT_ENCODER) == ("matinee", "embedded")


@pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)
def test_a_setting_that_does_not_exist(build, random_encoder):
    refusal("A BERT-CNN has no setting kernel_size, filters", build, random_encoder, kernel_size=(3,), filters=9)


@pytest.mark.parametrize("names, count", [({0: "a", 2: "b"}, 2), ({0: "a", 1: "b"}, 3), ({1: "a", 2: "b"}, 2)])
def test_names_that_do_not_fit_the_classes(names, count):
    refusal("id2label must name the classes 0 to num_labels - 1", BertCNNConfig, id2label=names, num_labels=count)


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint16])
def test_settings_may_be_numbers_of_numpy(kind, random_encoder, tmp_path):
    head = {"kernel_sizes": np.array([2, 3], kind), "num_filters": kind(4), "num_labels": kind(3)}
    head |= {"hidden_units": kind(5), "dropout": np.float32(0.25)}
    plain = {"kernel_sizes": (2, 3), "num_filters": 4, "num_labels": 3, "hidden_units": 5, "dropout": 0.25}
    assert BertCNNConfig(**head).head == plain
    model = pytorch_class.BertCNN.from_encoder(random_encoder, **head)
    model.save_pretrained(tmp_path)
    assert pytorch_class.BertCNN.from_pretrained(tmp_path).config.head == plain
    for build in (BUILD["keras_class"], BUILD["keras_functional"]):
        build(random_encoder, **head).save(tmp_path / "model.keras")
        assert keras.saving.load_model(tmp_path / "model.keras").count_params() == model.num_parameters()
    made = keras_class.BertCNN(load_keras_encoder(random_encoder), kernel_sizes=head["kernel_sizes"])
    assert [conv.kernel_size for conv in made.convs] == [(2,), (3,)]
