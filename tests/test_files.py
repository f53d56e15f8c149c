"""What a folder's files are: which of them are the data, of which split, and in which format."""

import csv
import gzip
import json

import datasets
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.data import check_texts, load_dataset
from companion.files import PACKAGED, find_files, read_splits
from tests.test_bad_input import refusal

ROWS = [("good , very", "pos"), ("bad", "neg")]
FORMATS = [".csv", ".CSV", ".tsv", ".csv.gz", ".json", ".jsonl", ".ndjson", ".jsonl.gz", ".parquet"]


def save(path, rows=ROWS, names=("text", "label")):
    """Rows in the format that the file's name says, written by pandas."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame, name = pd.DataFrame(rows, columns=names), path.name.lower()
    if "csv" in name or "tsv" in name:
        frame.to_csv(path, index=False, quoting=csv.QUOTE_ALL, sep="\t" if "tsv" in name else ",")
    elif "parquet" in name:
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines="json" not in path.suffix[:5] or name.endswith(("l", "ndjson")))
    return str(path.parent)


def texts(folder):
    return {split: list(rows["text"]) for split, rows in load_dataset(str(folder)).items()}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format(tmp_path, suffix):
    save(tmp_path / f"train{suffix}")
    assert texts(tmp_path) == {"train": ["good , very", "bad"]}


def test_a_json_file_of_json_lines_and_one_with_a_key(tmp_path):
    rows = [{"text": text, "label": label} for text, label in ROWS]
    (tmp_path / "train.json").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "test.json").write_text(json.dumps({"version": 1, "data": rows}))
    assert texts(tmp_path) == {split: ["good , very", "bad"] for split in ("train", "test")}


def test_formats_side_by_side(tmp_path):
    for name in ("train.csv", "validation.jsonl", "test.parquet"):
        save(tmp_path / name)
    splits = load_dataset(str(tmp_path))
    assert list(splits) == ["train", "validation", "test"]
    assert {tuple(rows["label"]) for rows in splits.values()} == {(1, 0)}


@pytest.mark.parametrize(
    "name, split",
    {
        "Train.csv": "train",
        "TRAIN.CSV": "train",
        "imdb_train.csv": "train",
        "imdb/training.csv": "train",
        "val.csv": "validation",
        "dev.tsv": "validation",
        "valid-00000-of-00001.parquet": "validation",
        "data/test-00000-of-00001-0123456789abcdef.parquet": "test",
        "test/data.csv": "test",
        "default/train/0000.parquet": "train",
        "my data/train.csv": "train",
        "unsupervised-00000-of-00001.parquet": "unsupervised",
    }.items(),
)
def test_the_split_that_a_name_says(tmp_path, name, split):
    save(tmp_path / name)
    assert list(read_splits(str(tmp_path))) == [split]


STRAYS = [
    ".ipynb_checkpoints/train-checkpoint.csv",
    ".cache/train.csv",
    ".train.csv",
    ".~train.csv",
    "~$train.csv",
    "#train.csv",
    ".#train.csv",
    "__MACOSX/._train.csv",
    "__pycache__/train.csv",
    "train.csv~",
    "train.csv.bak",
    "train.csv.swp",
    "dataset_info.json",
    "README.md",
]


@pytest.mark.parametrize("stray", STRAYS)
def test_files_that_are_not_the_data(tmp_path, stray):
    save(tmp_path / "train.csv")
    (tmp_path / stray).parent.mkdir(exist_ok=True)
    (tmp_path / stray).write_text("text,label\nan old text,pos\n")
    assert texts(tmp_path) == {"train": ["good , very", "bad"]}


COPIES = ["train.jsonl", "train (1).csv", "train copy.csv", "Copy of train.csv", "train-old.csv", "train.bak.csv"]
COPIES += ["train-checkpoint.csv", "train/data.csv", "old/train.csv", "train-00000-of-00001.csv", "training.csv"]


@pytest.mark.parametrize("copy", COPIES)
def test_two_files_that_could_be_the_split_are_both_named(tmp_path, copy):
    for name in ("train.csv", copy):
        save(tmp_path / name)
    with pytest.raises(ValueError, match="not clear which files are the split 'train'") as caught:
        load_dataset(str(tmp_path))
    assert "'train.csv'" in str(caught.value) and f"'{copy}'" in str(caught.value)


def test_splits_as_folders(tmp_path):
    save(tmp_path / "train" / "data.csv")
    save(tmp_path / "test" / "data.csv", ROWS[:1])
    assert texts(tmp_path) == {"train": ["good , very", "bad"], "test": ["good , very"]}


def test_a_folder_and_a_file_that_contradict_each_other(tmp_path):
    save(tmp_path / "train" / "test.csv")
    refusal("'train/test.csv' names more than one split", load_dataset, str(tmp_path))


@given(st.integers(1, 12), st.data())
def test_shards_come_together_only_if_none_is_missing(tmp_path_factory, count, data):
    folder = tmp_path_factory.mktemp("shards")
    kept = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    for number in kept:
        (folder / f"train-{number:05}-of-{count:05}.jsonl").write_text(json.dumps({"text": str(number), "label": 1}))
    if len(kept) == count:
        assert len(find_files(folder, "D")["train"]) == count
    else:
        refusal("not clear which files are the split 'train'", find_files, folder, "D")


def test_shards_whose_classes_are_numbered_differently_are_refused(tmp_path):
    for number, names in enumerate((["neg", "pos"], ["pos", "neg"])):
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        rows = datasets.Dataset.from_dict({"text": ["fine"], "label": [1]}, features=features)
        rows.to_parquet(tmp_path / f"train-0000{number}-of-00002.parquet")
    refusal("columns of 'train-00001-of-00002.parquet' differ from", load_dataset, str(tmp_path))


def test_a_dataset_saved_to_disk(tmp_path):
    rows = datasets.Dataset.from_dict({"text": ["good", "bad"], "label": ["pos", "neg"]})
    datasets.DatasetDict({"train": rows, "dev": rows}).save_to_disk(tmp_path)
    assert texts(tmp_path) == {split: ["good", "bad"] for split in ("train", "validation")}


def test_two_splits_of_one_meaning(tmp_path):
    rows = datasets.Dataset.from_dict({"text": ["good", "bad"], "label": ["pos", "neg"]})
    datasets.DatasetDict({"val": rows, "dev": rows}).save_to_disk(tmp_path)
    refusal("two splits of the same meaning: val, dev", load_dataset, str(tmp_path))


@pytest.mark.parametrize("word", ["NA", "N/A", "None", "null", "nan", "NaN", "n/a", "NULL", "-", "1984", "true"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_words_that_pandas_takes_for_missing_values(tmp_path, word, suffix):
    save(tmp_path / f"train{suffix}", [(word, word), ("other", "other")])
    rows = load_dataset(str(tmp_path))["train"]
    assert list(rows["text"]) == [word, "other"]
    assert rows.features["label"].int2str(list(rows["label"])) == [word, "other"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1), min_size=1))
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_any_text_comes_back_as_it_was(tmp_path_factory, suffix, some):
    folder = tmp_path_factory.mktemp("texts")
    save(folder / f"train{suffix}", [(text, "x") for text in some])
    assert list(read_splits(str(folder))["train"]["text"]) == some


def test_an_empty_label_is_named_by_its_row(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\ngood,1\nbad,\n")
    refusal("has rows without a label; row 2 is the first", load_dataset, str(tmp_path))


def test_categories_of_pandas(tmp_path):
    frame = pd.DataFrame({"text": ["good", "bad"], "label": pd.Categorical(["pos", "neg"], categories=["pos", "neg"])})
    frame.to_parquet(tmp_path / "train.parquet")
    assert load_dataset(str(tmp_path))["train"].features["label"].names == ["neg", "pos"]


def test_the_packaged_corpus_needs_no_cache(monkeypatch):
    """Where home cannot be written to, the library's cache cannot either."""
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: pytest.fail("the library's cache is used"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "/proc/none")
    rows = load_dataset("matinee")["train"]
    assert len(rows.shuffle(seed=0).select(range(10))) == 10 and PACKAGED["matinee"].is_dir()
    assert not rows.cache_files


@pytest.mark.parametrize(
    "names, options",
    [
        (("review", "sentiment"), {"text": "review", "label": "sentiment"}),
        (("text", "sentiment"), {"label": "sentiment"}),
        (("review", "label"), {"text": "review"}),
    ],
)
def test_columns_with_other_names(tmp_path, names, options):
    folder = save(tmp_path / "train.csv", names=names)
    refusal(f"it has {', '.join(names)}. The options text= and label=", load_dataset, folder)
    rows = load_dataset(folder, **options)["train"]
    assert list(rows["text"]) == ["good , very", "bad"] and list(rows["label"]) == [1, 0]


def test_a_chosen_column_replaces_the_usual_one(tmp_path):
    folder = save(tmp_path / "train.csv", [("a title", "good", "1")], ("text", "review", "label"))
    assert list(load_dataset(folder, text="review")["train"]["text"]) == ["good"]


BROKEN = {
    "train.csv": [
        ("text,label\ncafé,1\n".encode("latin-1"), "'train.csv' is not encoded in UTF-8.*save it as UTF-8"),
        ("text,label\ngood,1\n".encode("utf-16"), "'train.csv' is not encoded in UTF-8.*save it as UTF-8"),
        (b"text,label\ngood, very,1\n", "'train.csv' cannot be read: row 1 has 3 values for 2 columns"),
        (b"text,label\ngood\n", "'train.csv' cannot be read: row 1 has 1 values for 2 columns"),
        (b'text,label\n"good,1\n', "'train.csv' cannot be read: line 2: unexpected end of data"),
        (b"text,text\na,b\n", "two of its columns have the same name"),
        (b"\n \n", "'train.csv' cannot be read: it is empty"),
        (b"text;label\ngood, very;1\n", "its columns are separated by ';'; a .csv file needs commas"),
        ("text,label\ngood,1\n".encode("utf-16-le"), "null characters, perhaps because it is encoded in UTF-16"),
    ],
    "train.jsonl": [
        (b'{"text": "a", "label": 1}\n{"text": "b" "label": 1}\n', "'train.jsonl' cannot be read: line 2 is not JSON"),
        (b'{"text": "a", "label": 1}\n["b", 1]\n', "row 2 is not an object with a text and a label"),
        (b'{"text": "a", "label": 1}\n{"text": "b\\ud83d", "label": 1}\n', "row 2 has half a character in 'text'"),
        (b'{"text": "a", "label": 1}\n{"text": "b", "label": "good"}\n', "row 2 has 'good' as 'label'"),
        (
            b'{"text": "a", "label": ["b"]}\n{"text": "a", "label": ["\\ud83d"]}\n',
            "row 2 has half a character in 'label'",
        ),
    ],
    "train.json": [
        (b"3", "'train.json' cannot be read: it is not a list of objects"),
        (b"[" * 99999, "'train.json' cannot be read: maximum recursion depth exceeded"),
        (b'{\n"text": {"0": "good"},\n"label": {"0": 1}}', "Text 0 is not a string but dict: {'0': 'good'}"),
    ],
    "train.csv.gz": [
        (gzip.compress(b"good," * 99)[:10] + b"\xff" * 20, "'train.csv.gz' cannot be read: Error -3"),
        (gzip.compress(b"text,label\n" + b"good,1\n" * 99)[:-12], "'train.csv.gz' cannot be read"),
        (b"text,label\ngood,1\n", "'train.csv.gz' cannot be read: Not a gzipped file"),
    ],
    "train.parquet": [(b"PAR1 or not", "'train.parquet' cannot be read")],
    "my reviews.csv": [(b"text,label\ngood,1\n", "'my reviews.csv' does not say which split it is: name it train")],
}


@pytest.mark.parametrize("name, content, message", [(n, *case) for n, cases in BROKEN.items() for case in cases])
def test_a_file_that_cannot_be_read_is_named_with_the_cause(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    refusal(message, load_dataset, str(tmp_path))


def test_a_split_without_the_columns_is_named(tmp_path):
    save(tmp_path / "train.csv")
    save(tmp_path / "sample_submission.csv", [("1", "0")], ("id", "score"))
    refusal("'sample_submission' of .* has no column label, text; it has id, score", load_dataset, str(tmp_path))


def test_texts_and_labels_are_two_columns(tmp_path):
    name = save(tmp_path / "train.csv")
    refusal("cannot both be the column 'label'", load_dataset, name, "label", "label")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "train.csv").write_bytes("text,label\ngood,1\n".encode("utf-8-sig"))
    assert texts(tmp_path) == {"train": ["good"]}


def test_half_a_character_in_a_text():
    refusal("Text 1 has half a character in it", check_texts, ["fine", "bad \ud83d"])
    check_texts(["fine \N{GRINNING FACE}"])


def test_a_single_text_is_not_read_letter_by_letter():
    refusal("Texts stand in a list", check_texts, "a fine film")


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.float32, np.float64, bool])
def test_labels_of_any_numeric_type(tmp_path, dtype):
    frame = pd.DataFrame({"text": ["good", "bad"], "label": np.array([1, 0], dtype)})
    frame.to_parquet(tmp_path / "train.parquet")
    rows = load_dataset(str(tmp_path))["train"]
    assert list(rows["label"]) == [1, 0]
    assert rows.features["label"].names == (["False", "True"] if dtype is bool else ["0", "1"])
