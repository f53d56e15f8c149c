"""The challenge set is as large, as balanced and as far from the training texts as it says; its measures are right."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from companion.files import PACKAGED
from companion.study.challenge import (
    FOLDER,
    clustered_wilson,
    failure_rates,
    failures,
    load_challenge,
    orderings,
    shifts,
)
from companion.study.intervals import auc_influence, clustered_mean
from companion.study.templates import CHANGES

STORED = json.loads((FOLDER / "templates.json").read_text(encoding="utf-8"))
LEXICON = STORED["lexicon"]
LABELLED = [template for template in STORED["templates"] if template["label"]]
CAPABILITIES = list(dict.fromkeys(template["capability"] for template in LABELLED))
NEGATORS = r"not|no|never|nobody|nothing|none|neither|nor|cannot|without|hardly|barely|scarcely|seldom|rarely|\w+n't"
NEGATION = set("not no never nobody nothing none neither cannot barely almost very little".split())
NEGATION |= set(
    "either or any anyone who once one a single for moment second in the least".split()
)  # their polarity items
AFFIRMATION = set("every everybody everyone everything all always can so too and much".split())
NEGATIONS = ["simple negation", "negation with words between", "negation of a whole clause"]


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
    texts = cases[cases["role"].ne("twin")]
    labelled = texts[texts["kind"].isin(["minimum functionality", "minimal pair"])]
    share = labelled.groupby(["kind", "capability"])["label"].mean()
    assert share.between(0.45, 0.55).all()
    assert (cases.loc[cases["kind"].isin(["invariance", "direction"]), "label"] == -1).all()


def words(text):
    return re.findall(r"[a-z']+", re.sub(r"{\w+}", " ", text.lower()))


def slots(text):
    return [slot.rstrip("0123456789") for slot in re.findall(r"{(\w+)}", text)]


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_no_word_of_the_templates_tells_the_label(capability):
    """So none of those that carry the change does: negators, but, although, modal verbs, question and time words."""
    templates, occurrences = {}, {}
    for label in ("positive", "negative"):
        texts = [t["text"] for t in LABELLED if (t["capability"], t["label"]) == (capability, label)]
        templates[label] = Counter(word for text in texts for word in set(words(text)))
        occurrences[label] = Counter(word for text in texts for word in words(text))
    for counts in (templates, occurrences):
        uneven = {word for word in counts["positive"] | counts["negative"]}
        uneven = {word for word in uneven if abs(counts["positive"][word] - counts["negative"][word]) > 1}
        assert not uneven


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_slots_hold_as_many_words_in_positive_as_in_negative_templates(capability):
    sizes = {"positive": [], "negative": []}
    for template in LABELLED:
        if template["capability"] == capability:
            sizes[template["label"]] += [len(LEXICON[name]) for name in slots(template["text"])]
    assert sorted(sizes["positive"]) == sorted(sizes["negative"])


def test_negators_are_as_frequent_in_positive_as_in_negative_texts(cases):
    """In the texts as filled in, where words of the lexicon count, too."""
    texts = cases[cases["kind"].eq("minimum functionality") & cases["role"].eq("text")]
    negated = texts["text"].str.count(rf"(?i)\b(?:{NEGATORS})\b")
    mean = negated.groupby([texts["capability"], texts["label"]]).mean().unstack()
    assert ((mean[1] - mean[0]).abs() < 0.05).all(), mean


def test_each_word_of_the_lexicon_can_be_used():
    used = {name for template in STORED["templates"] for name in slots(template["text"])}
    used |= {template["vary"] for template in STORED["templates"] if "vary" in template} - set(CHANGES)
    assert used == set(LEXICON)
    assert all(len(set(entries)) == len(entries) for entries in LEXICON.values())


def test_all_negated_and_contrasted_templates_have_a_twin():
    without = {template["capability"] for template in LABELLED if "twin" not in template}
    assert not without & {*NEGATIONS, "but and although"} and len(NEGATIONS) == 3
    modal = [template for template in LABELLED if template["capability"] == "modality"]
    assert sum("twin" in template for template in modal) >= 2 / 3 * len(modal)


@pytest.mark.parametrize("template", [t for t in LABELLED if "twin" in t], ids=lambda t: t["text"])
def test_a_twin_differs_from_its_template_in_the_construction_alone(template):
    text, twin = template["text"], template["twin"]["text"]
    dropped, added = Counter(words(text)) - Counter(words(twin)), Counter(words(twin)) - Counter(words(text))
    turns = template["label"] != template["twin"]["label"]
    assert set(re.findall(r"{\w+}", twin)) <= set(re.findall(r"{\w+}", text))
    if template["capability"] == "modality":
        assert set(added) <= {"is", "was", "has", "this"}  # for could have been, could not have been, would have
        assert set(dropped) & set("could might must ought would may".split())
    elif template["capability"] == "but and although":
        assert not added and not turns
        assert set(dropped) & set("but although though while still".split())
    else:
        assert turns and set(added) <= AFFIRMATION and set(dropped) <= NEGATION
        assert set(dropped) or "{seldom}" in text
        assert set(re.findall(r"{\w+}", text)) - set(re.findall(r"{\w+}", twin)) <= {"{seldom}"}


def test_twins_stand_below_their_texts_with_the_same_words(cases):
    twins = np.flatnonzero(cases["role"] == "twin")
    texts = cases.iloc[twins - 1].reset_index(drop=True)
    twins = cases.iloc[twins].reset_index(drop=True)
    assert len(twins) > 1500 and texts["role"].eq("text").all() and texts["case"].equals(twins["case"])
    assert texts["text"].ne(twins["text"]).all() and twins["label"].isin([0, 1]).all()
    turned = texts["label"] != twins["label"]
    assert turned[texts["capability"].isin(NEGATIONS)].all()
    assert not turned[texts["capability"].isin(["but and although", "contrast"])].any()
    for text, twin in zip(texts["text"], twins["text"], strict=True):
        new = set(words(twin)) - set(words(text)) - AFFIRMATION
        assert new <= {"is", "was", "has", "this", "it"}, (text, twin)


def test_pairs_differ_in_the_label_and_little_else(cases):
    for _, pair in cases[cases["kind"].eq("minimal pair") & cases["role"].eq("text")].groupby("case"):
        assert sorted(pair["label"]) == [0, 1]
        one, other = (set(re.findall(r"[a-z']+", text.lower())) for text in pair["text"])
        assert len(one & other) / len(one | other) >= 0.2, pair["text"].tolist()


def test_a_changed_text_is_a_changed_one(cases):
    for _, case in cases[cases["kind"].isin(["invariance", "direction"])].groupby("case"):
        text, changed = case["text"]
        assert case["role"].tolist() == ["text", "changed"] and text != changed


def test_no_text_stands_twice_and_all_are_filled_in(cases):
    labelled = cases["kind"].isin(["minimum functionality", "minimal pair"])
    texts = cases.loc[labelled & cases["role"].ne("twin"), "text"]
    assert not texts.duplicated().any()
    assert not cases["text"].str.contains(r"[{}]").any()
    assert cases["text"].map(str.isascii).all()
    assert cases["text"].str.match(r"[A-Z]").all()


def test_none_of_it_is_in_the_training_texts(cases):
    known = set()
    for path in [path for folder in PACKAGED.values() for path in folder.glob("*.jsonl")]:
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


def test_a_perfect_model_orders_all_and_shifts_where_the_label_turns(cases):
    ordered, shifted = orderings(cases, perfect(cases)), shifts(cases, perfect(cases))
    assert (ordered["ordered"] == 1).all() and (ordered["low"] > 0.5).all()
    assert (shifted[["failed", "twin_failed"]] == 0).all(axis=None)
    assert shifted["shift"].to_dict() == pytest.approx({name: 8.0 * name[2] for name in shifted.index})
    assert set(ordered.index.unique("kind")) == {"minimum functionality", "minimal pair", "twin"}


def test_a_coin_is_at_the_chance_of_each_row(cases):
    coin = np.random.default_rng(0).choice([-20.0, 20.0], (40, len(cases)))
    rates, ordered, shifted = failure_rates(failures(cases, coin)), orderings(cases, coin), shifts(cases, coin)
    assert rates["rate"].to_numpy() == pytest.approx(rates["chance"].to_numpy(), abs=0.03)
    assert ordered["ordered"].to_numpy() == pytest.approx(ordered["chance"].to_numpy(), abs=0.03)
    assert shifted["failed"].to_numpy() == pytest.approx(shifted["chance"].to_numpy(), abs=0.03)
    expected = [20 if turns else -20 for *_, turns in shifted.index]  # its wrong twins are left out
    assert shifted["shift"].to_numpy() == pytest.approx(expected, abs=1)


def test_chance_differs_between_the_kinds(cases):
    chance = failure_rates(failures(cases, perfect(cases)))["chance"].groupby("kind").unique().map(list).to_dict()
    expected = {"minimum functionality": [0.5], "minimal pair": [0.75], "invariance": [0.5], "direction": [0.25]}
    assert chance == expected


def test_a_bag_of_words_that_ignores_negation_has_no_shift(cases):
    """Fitted to the twins and without function words, so it reads every twin, and no negation."""
    twins = cases[cases["role"] == "twin"]
    model = make_pipeline(CountVectorizer(stop_words="english"), LogisticRegression(C=100))
    odds = model.fit(twins["text"], twins["label"]).decision_function(cases["text"])
    table = shifts(cases, odds).loc["minimum functionality"].loc[NEGATIONS]
    assert (table["twin_failed"] < 0.02).all() and (table["failed"] > 0.98).all()
    assert (table["shift"] < 0.01).all() and (table["low"] <= 0).all()
    ordered = orderings(cases, odds)["ordered"]
    assert (ordered["minimum functionality"][NEGATIONS] < 0.1).all()
    assert (ordered["twin"][NEGATIONS] < 0.6).all()


def test_a_model_that_takes_each_negator_for_blame_shifts_half_of_them_the_wrong_way(cases):
    turned = cases["capability"].isin(NEGATIONS) & cases["kind"].eq("minimum functionality")
    blame = np.where(turned & cases["role"].eq("text"), 1.0, 0.0)
    twin = cases["label"].where(cases["role"].eq("twin")).bfill().to_numpy()  # the label of the twin below
    table = shifts(cases, np.where(twin == 1, 2.0, -2.0) - blame).loc["minimum functionality"].loc[NEGATIONS]
    assert table["shift"].to_numpy() == pytest.approx(0, abs=0.01)
    assert table["failed"].to_numpy() == pytest.approx(1)
    assert (table["low"] < -0.2).all() and (table["high"] > 0.2).all()


def test_only_seeds_that_read_the_twin_count(cases):
    right = perfect(cases)
    twins, texts = cases["role"].eq("twin"), cases["role"].ne("twin")
    weak = np.where(texts, 0.5 * right, right)  # turns by 6 in place of 8
    lost = np.where(twins, -right, 100 * right)
    table = shifts(cases, [right, weak, lost])
    assert table["shift"].xs(True, level="turns").to_numpy() == pytest.approx(7)
    assert table["twin_failed"].to_numpy() == pytest.approx(1 / 3)
    none = shifts(cases, lost)
    assert (none["twin_failed"] == 1).all() and none[["failed", "shift", "low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize("measure", [failures, orderings, shifts])
def test_log_odds_that_do_not_fit(cases, measure):
    with pytest.raises(ValueError, match=f"{len(cases)} texts in the challenge set, and log-odds for 3"):
        measure(cases, np.zeros((1, 3)))
    odds = perfect(cases)
    odds[:2] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of the log-odds are infinite or not a number"):
        measure(cases, odds)


def test_twins_apart_from_their_texts_are_refused(cases):
    for rows in (cases[cases["role"].ne("text")], cases.sample(frac=1, random_state=0)):
        with pytest.raises(ValueError, match="Each twin must be in the row below its text"):
            shifts(rows, np.zeros(len(rows)))


def test_the_auc_is_the_libraries_and_needs_both_classes():
    rng = np.random.default_rng(0)
    above, below = rng.integers(0, 9, (3, 40)) + 1.0, rng.integers(0, 9, (3, 30)) + 0.0  # with ties
    labels = np.repeat([1, 0], [40, 30])
    expected = np.mean([roc_auc_score(labels, odds) for odds in np.hstack([above, below])])
    assert auc_influence(above, below).mean() == pytest.approx(expected)
    with pytest.raises(ValueError, match="positive and negative"):
        auc_influence(above, below[:, :0])


def test_the_interval_of_the_auc_covers():
    rng, hits, naive = np.random.default_rng(0), 0, 0
    clusters, truth = np.repeat(np.arange(44), 8), norm.cdf(0.6 / np.sqrt(2))  # texts of a template are alike
    for _ in range(400):
        odds = (rng.normal(size=44) * np.sqrt(0.6))[clusters] + rng.normal(size=352) * np.sqrt(0.4)
        influence = auc_influence(odds[None, :176] + 0.6, odds[None, 176:])
        _, low, high = clustered_wilson(influence, clusters)
        hits += low <= truth <= high
        _, low, high = clustered_wilson(influence, np.arange(352))
        naive += low <= truth <= high
    assert 0.92 <= hits / 400 <= 0.98
    assert naive / 400 < 0.75


def test_the_mean_of_equal_clusters_has_the_t_interval_of_their_means():
    rng = np.random.default_rng(0)
    values, clusters = rng.normal(size=60) + np.repeat(rng.normal(size=12), 5), np.repeat(np.arange(12), 5)
    expected = ttest_1samp(values.reshape(12, 5).mean(axis=1), 0).confidence_interval()
    mean, low, high = clustered_mean(values, np.ones(60), clusters)
    assert (mean, low, high) == pytest.approx((values.mean(), *expected))
    padded = clustered_mean(np.append(values, 99), np.append(np.ones(60), 0), np.append(clusters, 12))
    assert padded == pytest.approx((mean, low, high))  # what has no weight does not count
    assert np.isnan(clustered_mean([1.0, 2.0], np.ones(2), [0, 0])[1:]).all()


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
