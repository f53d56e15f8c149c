"""The challenge set is as large, as balanced and as apart from the training texts as it says."""

import json
import re

import pytest

from companion.challenge import CHANGES, load_challenge
from companion.data import MATINEE


@pytest.fixture(scope="module")
def cases():
    return load_challenge()


def test_there_are_enough_of_each(cases):
    counts = cases.groupby(["kind", "capability"])["case"].nunique()
    assert (counts[["minimum functionality", "invariance", "direction"]] >= 300).all()
    assert counts["minimal pair"].between(50, 100).all() and len(counts["minimal pair"]) == 5
    assert len(counts["minimum functionality"]) == 11 and len(counts["invariance"]) == 7
    templates = cases[cases["kind"] != "minimal pair"].groupby(["kind", "capability"])["template"].nunique()
    assert (templates >= 16).all()


def test_labels_are_balanced_in_each_capability(cases):
    labelled = cases[cases["kind"].isin(["minimum functionality", "minimal pair"])]
    share = labelled.groupby(["kind", "capability"])["label"].mean()
    assert share.between(0.45, 0.55).all()
    assert (cases.loc[cases["kind"].isin(["invariance", "direction"]), "label"] == -1).all()


def test_pairs_differ_in_the_label_and_little_else(cases):
    for _, pair in cases[cases["kind"] == "minimal pair"].groupby("case"):
        assert sorted(pair["label"]) == [0, 1]
        one, other = (set(re.findall(r"[a-z']+", text.lower())) for text in pair["text"])
        assert len(one & other) / len(one | other) >= 0.2, pair["text"].tolist()


def test_a_changed_text_is_a_changed_one(cases):
    for _, case in cases[cases["kind"].isin(["invariance", "direction"])].groupby("case"):
        text, changed = case["text"]
        assert case["role"].tolist() == ["text", "changed"] and text != changed


def test_no_text_stands_twice_and_all_are_filled_in(cases):
    texts = cases[cases["kind"].isin(["minimum functionality", "minimal pair"])]["text"]
    assert not texts.duplicated().any()
    assert not cases["text"].str.contains(r"[{}]").any()
    assert cases["text"].map(str.isascii).all()


def test_none_of_it_is_in_the_training_texts(cases):
    known = set()
    for path in MATINEE.glob("*.jsonl"):
        known |= {json.loads(line)["text"].lower() for line in path.read_text("utf-8").splitlines()}
    assert known and not known & set(cases["text"].str.lower())


def test_it_is_the_same_each_time(cases):
    assert cases.equals(load_challenge())


@pytest.mark.parametrize(
    "change, text, changed",
    [
        ("contraction", "I have seen it, and it is not dull.", "I've seen it, and it isn't dull."),
        ("punctuation", "Well, it is dull.", "Well it is dull"),
    ],
)
def test_changes(change, text, changed):
    assert CHANGES[change](text, None) == changed
