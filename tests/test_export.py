"""`python -m companion.export`: the graph gives PyTorch's numbers, and the folder is all that its reader needs."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import TEXTS

from companion import keras_functional
from companion.attribution import explain
from companion.data import load_dataset
from companion.encoders import PACKAGED, load_tokenizer
from companion.export import __main__ as command
from companion.export import graph
from companion.export.reader import Exported, answer
from companion.export.saved import load_saved
from companion.pytorch_class import BertCNN


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """The export of the ready-made classifier."""
    folder = tmp_path_factory.mktemp("export") / "classifier"
    command.main(["classifier", str(folder)])
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory, random_encoder):
    """(a random model of three classes with a hidden layer, the folder of its export)."""
    torch.manual_seed(2)
    model = BertCNN.from_encoder(random_encoder, kernel_sizes=(2, 5), num_filters=6, hidden_units=7, num_labels=3)
    model.classifier.weight.data *= 100  # a new output layer is small; a difference should show in the logits
    folder = tmp_path_factory.mktemp("export") / "small"
    graph.write(model, load_tokenizer(random_encoder), ["a", "b", "c"], folder)
    return model, folder


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("length", [1, 2, 9, 100])
@pytest.mark.parametrize("side", ["right", "left"])
def test_onnxruntime_gives_the_logits_and_windows_of_pytorch(small, batch, length, side):
    model, folder = small
    generator = np.random.default_rng(batch * length)
    ids, counts = generator.integers(5, 20, (batch, length)), generator.integers(1, length + 1, (batch, 1))
    place = np.arange(length)[::-1] if side == "left" else np.arange(length)
    mask = (place < counts).astype(np.int64)
    with torch.inference_mode():
        maps = model.convolve(model.embed(torch.tensor(ids), torch.tensor(mask)), torch.tensor(mask))
        values = model.pool(maps)
        logits = model.classify(values)
    found_logits, found_values, starts = Exported(folder).run(ids, mask)
    np.testing.assert_allclose(found_logits, logits, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found_values, values, rtol=0, atol=1e-4)
    places = torch.tensor(starts + mask.argmax(axis=1)[:, None])  # in the batch, padding counted
    named = [m.gather(1, p[:, None])[:, 0] for m, p in zip(maps, places.chunk(2, dim=1), strict=True)]
    np.testing.assert_allclose(torch.cat(named, dim=1), values, rtol=0, atol=1e-4)  # the window has that value


def test_an_explanation_is_that_of_the_model(small, random_encoder):
    model, folder = small
    texts = [text for text in TEXTS if text]
    ours = explain(model, texts, tokenizer=load_tokenizer(random_encoder))
    for one, other in zip(ours, Exported(folder).explain(texts), strict=True):
        np.testing.assert_allclose(other.logits, one.logits, rtol=0, atol=1e-4)
        places = [{(start, end): value for start, end, value in e.ngrams(0, against=1)} for e in (one, other)]
        assert places[0] == pytest.approx(places[1], abs=1e-4)


def test_text_goes_in_and_class_probability_and_ngrams_come_out(classifier):
    exported, texts = Exported(classifier), ["a warm and funny film", "not one good minute"]
    answers = exported.answers(texts)
    assert [answer.label for answer in answers] == ["positive", "negative"]
    assert all(0.5 < answer.probability <= 1 and 0 < len(answer.ngrams) <= 5 for answer in answers)
    start, end, weight = answers[0].ngrams[0]
    assert "funny" in texts[0][start:end] and weight > 0
    plain = exported.answers(texts, ngrams=False)
    assert [(answer.label, answer.ngrams) for answer in plain] == [("positive", None), ("negative", None)]
    assert [a.probability for a in plain] == pytest.approx([a.probability for a in answers], abs=1e-4)


def test_int8_is_a_quarter_of_the_size_and_nearly_as_accurate(classifier):
    """Within a point on matinee's 420 test sentences: 4 of them. On real data see the classifier's card."""
    test = load_dataset("matinee")["test"]
    texts, labels = list(test["text"]), np.array(test["label"])
    accuracy = {}
    for int8 in (False, True):
        exported = Exported(classifier, int8=int8)
        logits = np.concatenate([exported.logits(texts[i : i + 70]) for i in range(0, len(texts), 70)])
        accuracy[int8] = (logits.argmax(axis=1) == labels).mean()
    assert accuracy[False] > 0.8
    assert abs(accuracy[True] - accuracy[False]) <= 0.01
    assert (classifier / "model.int8.onnx").stat().st_size < 0.4 * (classifier / "model.onnx").stat().st_size


def test_reading_an_export_loads_no_framework(classifier):
    code = (
        "import sys; from companion.export.reader import Exported\n"
        f"answer, = Exported({str(classifier)!r}).answers(['a dull film'])\n"
        "print(answer.label, {'torch', 'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "negative set()"


def logits_of(model, inputs):
    """The PyTorch class's, from integer arrays."""
    with torch.inference_mode():
        return model(**{name: torch.from_numpy(array).long() for name, array in inputs.items()}).logits


def test_a_keras_class_in_a_file_becomes_the_same_model(four, random_encoder, tmp_path):
    four.keras_class.save(tmp_path / "model.keras")
    model, tokenizer, labels = load_saved(str(tmp_path / "model.keras"), random_encoder, ["bad", "good"])
    inputs = four.inputs(TEXTS)
    np.testing.assert_allclose(logits_of(model, inputs), four.keras_class(inputs), rtol=0, atol=1e-4)
    assert labels == ["bad", "good"] and len(tokenizer) == model.config.encoder_config.vocab_size
    with pytest.raises(ValueError, match="is not that of the model's encoder"):
        load_saved(str(tmp_path / "model.keras"))  # the default's tokenizer


def test_a_keras_graph_with_a_hidden_layer_becomes_the_same_model(random_encoder, tmp_path):
    settings = {"hidden_units": 5, "num_labels": 4, "kernel_sizes": (1, 2)}
    built = keras_functional.build_bert_cnn(random_encoder, **settings)
    built.save(tmp_path / "model.keras")
    model, _, labels = load_saved(str(tmp_path / "model.keras"), random_encoder)
    assert labels == ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"]
    ids = np.arange(5, 17, dtype=np.int32).reshape(2, 6)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    np.testing.assert_allclose(logits_of(model, inputs), built(inputs), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["embedded", "new"], "'embedded' is no BERT-CNN but a model of type 'bert'"),
        (["no_json", "new"], r"The config\.json of 'no_json' is damaged: it is not JSON"),
        (["missing.keras", "new"], "There is no file 'missing.keras'"),
        (["damaged.keras", "new"], "'damaged.keras' cannot be read as a Keras model"),
        (["classifier", "taken"], "'taken' exists already"),
        (["classifier", "new", "--labels", "one"], "has 2 classes, and 1 names are given"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "damaged.keras").write_bytes(b"PK")
    (tmp_path / "no_json").mkdir()
    (tmp_path / "no_json" / "config.json").write_text("")
    shutil.copy(PACKAGED["classifier"] / "model.safetensors", tmp_path / "no_json")
    with pytest.raises(ValueError, match=message):
        command.main(arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.keras", "no_json", "taken"]


def test_a_missing_library_is_named_with_the_way_to_get_it(tmp_path, monkeypatch, small):
    monkeypatch.setattr(graph, "find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(ValueError, match=r"^Export needs onnxscript: pip install 'bert-cnn-companion\[export\]'\.$"):
        command.main(["classifier", str(tmp_path / "new")])
    monkeypatch.setattr("companion.export.reader.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^Running an export needs onnxruntime: pip install"):
        Exported(small[1])


def test_what_is_no_export_is_said(tmp_path, small):
    with pytest.raises(ValueError, match=r"is no export: it has no model\.onnx"):
        Exported(tmp_path)
    assert json.loads((small[1] / "labels.json").read_text("utf-8"))["labels"] == ["a", "b", "c"]


def test_an_export_whose_parts_do_not_fit_is_refused(tmp_path, small):
    shutil.copytree(small[1], tmp_path / "export")
    settings = json.loads((tmp_path / "export" / "labels.json").read_text("utf-8"))
    (tmp_path / "export" / "labels.json").write_text(json.dumps(settings | {"labels": ["a", "b"]}))
    with pytest.raises(ValueError, match="has 3 classes, and 2 names"):
        Exported(tmp_path / "export")
    (tmp_path / "export" / "head.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is no export: it has no head\.safetensors"):
        Exported(tmp_path / "export")


def test_logits_that_are_no_numbers_give_no_class():
    with pytest.raises(ValueError, match="its weights are not all finite"):
        answer(np.array([np.nan, 1.0]), ["a", "b"])


def test_a_failed_export_leaves_no_folder(tmp_path, monkeypatch, small, random_encoder):
    monkeypatch.setattr(graph, "write_int8", lambda *_: 1 / 0)
    monkeypatch.setattr(graph, "write_graph", lambda *_: None)
    with pytest.raises(ZeroDivisionError):
        graph.write(small[0], load_tokenizer(random_encoder), ["a", "b", "c"], tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
