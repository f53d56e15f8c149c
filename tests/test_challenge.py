"""The challenge set is as large, as balanced and as apart from the training texts as it says."""

import json
import re

import numpy as np
import pytest

from companion.challenge import CHANGES, clustered_wilson, failure_rates, failures, load_challenge
from companion.files import PACKAGED


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
    for path in PACKAGED["matinee"].glob("*.jsonl"):
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


def perfect(cases):
    """Log-odds of a model that has every label right, moves for nothing, and likes praise."""
    odds = np.where(cases["label"] == 1, 4.0, -4.0)
    odds[cases["label"] == -1] = 0.5
    odds[(cases["capability"] == "praise added") & (cases["role"] == "changed")] = 2.0
    odds[(cases["capability"] == "damning sentence added") & (cases["role"] == "changed")] = -2.0
    return odds


def test_a_perfect_model_fails_nothing(cases):
    failed = failures(cases, perfect(cases))
    assert len(failed) == cases["case"].nunique() and not failed["failed"].any()


def test_a_model_that_turns_everything_round_fails_what_has_a_side(cases):
    rates = failure_rates(failures(cases, -perfect(cases)))["rate"]
    assert (rates[["minimum functionality", "minimal pair", "direction"]] == 1).all()
    assert (rates["invariance"] == 0).all()


def test_a_model_with_one_answer_fails_half_the_texts_and_all_the_pairs(cases):
    rates = failure_rates(failures(cases, np.full(len(cases), 3.0)))["rate"]
    assert rates["minimum functionality"].between(0.45, 0.55).all()
    assert (rates["minimal pair"] == 1).all()
    assert (rates[["invariance", "direction"]] == 0).all()


def test_a_model_that_notices_every_change_fails_invariance(cases):
    odds = np.where(cases["role"] == "changed", 0.2, -0.2)
    rates = failure_rates(failures(cases, odds))["rate"]
    assert (rates["invariance"] == 1).all()
    assert rates["direction", "praise added"] == 0  # by two tenths in log-odds, so it is within the tolerance, too:
    assert rates["direction", "damning sentence added"] == 0
    assert failure_rates(failures(cases, 5 * odds))["rate"]["direction", "damning sentence added"] == 1


def test_seeds_are_averaged_case_by_case(cases):
    right = perfect(cases)
    failed = failures(cases, [right, right, right, -right])
    assert set(failed["failed"]) == {0.0, 0.25}


def test_log_odds_of_another_set(cases):
    with pytest.raises(ValueError, match=f"{len(cases)} texts in the challenge set, and log-odds for 3"):
        failures(cases, np.zeros((1, 3)))


def test_the_interval_covers_where_cases_of_a_template_are_alike():
    """Templates differ (beta-distributed rates); a Wilson interval over cases as if independent covers far less."""
    rng, hits, naive = np.random.default_rng(0), 0, 0
    clusters = np.repeat(np.arange(22), 15)
    for _ in range(400):
        values = rng.random(len(clusters)) < rng.beta(1.2, 2.8, 22)[clusters]
        _, low, high = clustered_wilson(values, clusters)
        hits += low <= 0.3 <= high
        _, low, high = clustered_wilson(values, np.arange(len(clusters)))
        naive += low <= 0.3 <= high
    assert 0.92 <= hits / 400 <= 0.98
    assert naive / 400 < 0.7


def test_the_interval_where_nothing_fails_counts_templates():
    mean, low, high = clustered_wilson(np.zeros(330), np.repeat(np.arange(22), 15))
    assert (mean, low) == (0, 0) and high == pytest.approx(0.149, abs=0.001)  # Wilson's for 0 of 22
