"""What labels mean is the same in every split, whichever way each of them stores it."""

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.data import batches, encode, keras_batches, load_dataset
from companion.encoders import load_tokenizer
from companion.labels import label_names, problem_type
from tests.test_bad_input import refusal, write


def save(folder, splits):
    """splits: name -> labels, or (names, numbers) for a `ClassLabel`; JSON lines, and Parquet for a `ClassLabel`."""
    for split, labels in splits.items():
        if isinstance(labels, tuple):
            names, labels = labels
            feature = datasets.ClassLabel(names=names)
            feature = datasets.List(feature) if isinstance(labels[0], list) else feature
            features = datasets.Features({"text": datasets.Value("string"), "label": feature})
            rows = datasets.Dataset.from_dict({"text": ["words"] * len(labels), "label": labels}, features=features)
            rows.to_parquet(folder / f"{split}.parquet")
        else:
            write(folder, [{"text": "words", "label": label} for label in labels], split)
    return str(folder)


def meanings(rows):
    feature, labels = rows.features["label"], list(rows["label"])
    if problem_type(feature) == "multi_label_classification":
        return [feature.feature.int2str(row) for row in labels]
    return feature.int2str(labels)


MATCHED = {  # labels of train and of test -> what test means
    "names in another order": ((["neg", "pos"], [0, 1]), (["pos", "neg"], [0, 1]), ["pos", "neg"]),
    "names and plain text": ((["pos", "neg"], [0, 1]), ["neg", "pos"], ["neg", "pos"]),
    "plain text and names": (["pos", "neg"], (["pos", "neg"], [0, 1]), ["pos", "neg"]),
    "capitals": (["neg", "pos"], ["Pos", "NEG "], ["pos", "neg"]),
    "numbers as text": ([1, 2, 10], ["10", "1"], ["10", "1"]),
    "whole floats": ([0, 1], [1.0, 0.0], ["1", "0"]),
    "fewer classes": (["a", "b", "c"], ["c", "b"], ["c", "b"]),
    "a name that is never used": ((["a", "b"], [0, 1]), (["a", "b", "c"], [1, 0]), ["b", "a"]),
    "lists of names": (([["a"], ["a", "b"]]), (["b", "a"], [[0], [], [0, 1]]), [["b"], [], ["b", "a"]]),
    "zero or one for each class": ([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[0, 1, 1]], [["1", "2"]]),
}


@pytest.mark.parametrize("train, test, expected", MATCHED.values(), ids=MATCHED)
def test_labels_are_matched_by_name(tmp_path, train, test, expected):
    splits = load_dataset(save(tmp_path, {"train": train, "test": test}))
    assert splits["train"].features == splits["test"].features
    assert meanings(splits["test"]) == expected


REFUSED = {
    "other words": (
        ["neg", "pos"],
        ["Negative", "Positive"],
        "the label 'Negative', .* not among training's: 'neg', 'p",
    ),
    "words and numbers": (["neg", "pos"], [0, 1], "the label '0', which is not among training's: 'neg', 'pos'"),
    "names and bare numbers": ((["neg", "pos"], [0, 1]), [0, 1], "the label '0', which is not among training's"),
    "counted from one": ([0, 1], [1, 2], "the label '2', which is not among training's: '0', '1'"),
    "names that differ": ((["neg", "pos"], [0, 1]), (["bad", "good"], [0, 1]), "the label 'bad'"),
    "capitals that matter": (["US", "us"], ["Us"], "the label 'Us'"),
    "a list and a value": ([["a"], ["b"]], ["a"], "are lists in some of its splits, and single values in others"),
    "lists of other lengths": ([[1, 0], [0, 1]], [[1, 0, 1]], "are lists of different lengths in its splits"),
    "zeros and ones of other lengths": (
        [[1, 0, 0], [0, 1]],
        [[0, 1]],
        "The label .* names a class twice, or lacks a 0 or 1 for some class",
    ),
    "a class twice": ([["a", "b"], ["b", "b"]], [["a"]], "'b', 'b'. of .* names a class twice"),
    "parts of classes": (
        [[0.2, 0.8], [1.0, 0.0]],
        [[0.0, 1.0]],
        "Row 1 of the .* has 0.2 in its list of labels; there each",
    ),
    "names in lists": ([["a"], ["b"]], [["c", "a"]], "the label 'c', which is not among training's: 'a', 'b'"),
    "none": (["a", "b"], ["a", None], "has rows without a label; row 2 is the first"),
    "empty": (["a", "b"], ["", "a"], "has rows without a label; row 1 is the first"),
    "blank": (["a", "b"], ["a", " "], "has rows without a label; row 2 is the first"),
    "minus one": ([-1, 0, 1], [0], "has rows without a label .-1.. If -1 is a class, write the classes as words"),
    "numbers and a word": (
        ["0.5", "1.25", "nan"],
        ["2"],
        "Labels are numbers, such as 0.5, or words, such as 'nan', and",
    ),
    "a comma in a number": (["0.5", "0,75"], ["0.5"], "or words, such as '0,75', and not both"),
    "a list as text": (["[1, 0]", "[0, 1]"], ["[1, 1]"], "is a list as text, .*: store lists as JSON or Parquet"),
}


@pytest.mark.parametrize("train, test, message", REFUSED.values(), ids=REFUSED)
def test_labels_that_cannot_be_matched_are_refused(tmp_path, train, test, message):
    refusal(message, load_dataset, save(tmp_path, {"train": train, "test": test}))


@given(st.permutations("abcdef"), st.permutations("abcdef"))
def test_the_order_in_which_a_split_declares_its_names_makes_no_difference(tmp_path_factory, one, other):
    folder = tmp_path_factory.mktemp("orders")
    splits = load_dataset(save(folder, {"train": (one, list(range(6))), "test": (other, list(range(6)))}))
    assert splits["train"].features["label"].names == one  # as train declares them
    assert meanings(splits["test"]) == other


def test_a_number_for_each_text(tmp_path):
    splits = load_dataset(save(tmp_path, {"train": [0.5, 3, -1], "test": [4, 2]}))
    assert {problem_type(rows.features["label"]) for rows in splits.values()} == {"regression"}
    assert list(splits["train"]["label"]) == [0.5, 3.0, -1.0] and list(splits["test"]["label"]) == [4.0, 2.0]
    assert label_names(splits["train"].features["label"]) == ["score"]


def test_numbers_in_csv(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\ngood,4.5\nbad,1\n")
    assert list(load_dataset(str(tmp_path))["train"]["label"]) == [4.5, 1.0]
    (tmp_path / "train.csv").write_text("text,label\ngood,4.0\nbad,1\n")
    assert load_dataset(str(tmp_path))["train"].features["label"].names == ["1", "4"]


def test_several_labels_at_once_become_a_zero_or_one_for_each_class(tmp_path):
    rows = load_dataset(save(tmp_path, {"train": [["sad"], ["funny", "sad"], []]}))["train"]
    assert problem_type(rows.features["label"]) == "multi_label_classification"
    assert label_names(rows.features["label"]) == ["funny", "sad"]
    tokenizer = load_tokenizer("embedded")
    encoded = encode(rows, tokenizer)
    expected = [[0, 1], [1, 1], [0, 0]]
    assert list(encoded["label"]) == expected
    for labels in (next(batches(encoded, tokenizer))[1], keras_batches(encoded, tokenizer)[0][1]):
        assert labels.dtype == np.float32 and labels.tolist() == expected
