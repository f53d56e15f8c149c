"""The statistics, on simulated classifiers whose truth is known."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy.stats import norm, t
from sklearn.metrics import accuracy_score, f1_score
from statsmodels.stats.multitest import multipletests

from companion.study.statistics import (
    MARGIN,
    accuracy,
    calibration_error,
    compare,
    estimate,
    exact_mcnemar,
    fit_temperature,
    holm,
    macro_f1,
    span_f1,
)


def right(rng, truths, seeds=5, examples=1000, spread=0.0, own=0.25, noise=0.2):
    """Is each prediction right? One array (S, N) for each classifier: a latent score has to stay below a threshold.

    Examples are hard for all classifiers, or (own) for one in all its seeds, or (noise) in a single training. spread
    moves a whole training's threshold, in standard deviations of the latent score.
    """
    hard, whole = rng.normal(size=examples), np.sqrt(1 + own**2 + noise**2)
    for truth in truths:
        latent = hard + rng.normal(0, own, examples) + rng.normal(0, noise, (seeds, examples))
        yield latent / whole < norm.ppf(truth) + rng.normal(0, spread, (seeds, 1))


def expected(truth, spread):
    """The expected accuracy, over all trainings."""
    return norm.cdf(norm.ppf(truth) / np.sqrt(1 + spread**2))


def classifiers(rng, gain=0.0, classes=2, **how):
    """Labels (N,) and the predictions (S, N) of two classifiers, the first of which is better by `gain`."""
    both = list(right(rng, (0.8 + gain, 0.8), **how))
    labels = rng.integers(0, classes, both[0].shape[1])
    others = (labels + rng.integers(1, classes, both[0].shape)) % classes if classes > 2 else 1 - labels
    return labels, *(np.where(one, labels, others) for one in both)


SCENARIOS = [  # seeds, variance of seeds, interaction, true gain
    (3, 0.0, 0.2, 0.00),
    (3, 0.0, 0.8, 0.03),
    (3, 0.05, 0.2, 0.03),
    (3, 0.05, 0.8, 0.00),
    (3, 0.15, 0.2, 0.03),
    (3, 0.15, 0.8, 0.00),
    (5, 0.0, 0.8, 0.00),
    (5, 0.05, 0.2, 0.00),
    (5, 0.05, 0.8, 0.03),
    (5, 0.15, 0.2, 0.00),
    (5, 0.15, 0.8, 0.03),
    (10, 0.0, 0.2, 0.03),
    (10, 0.05, 0.8, 0.00),
    (10, 0.15, 0.2, 0.00),
    (10, 0.15, 0.8, 0.03),
]


@pytest.mark.parametrize("seeds, spread, noise, gain", SCENARIOS)
def test_intervals_cover_the_truth_at_their_rate(seeds, spread, noise, gain):
    """Of a difference. With 2,500 repetitions the rate itself is known to about 0.9 points."""
    rng, how = np.random.default_rng(1), {"seeds": seeds, "examples": 400, "spread": spread, "noise": noise}
    truth, covered = expected(0.8 + gain, spread) - expected(0.8, spread), []
    for _ in range(2500):
        ours, theirs = right(rng, (0.8 + gain, 0.8), **how)
        low, high = estimate(ours.astype(float) - theirs).interval()
        covered.append(low <= truth <= high)
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("seeds, spread, noise, gain", SCENARIOS[::3])
def test_intervals_of_an_accuracy_cover_the_truth_at_their_rate(seeds, spread, noise, gain):
    rng, how = np.random.default_rng(2), {"seeds": seeds, "examples": 400, "spread": spread, "noise": noise}
    found = [estimate(*right(rng, (0.8,), **how)).interval() for _ in range(2000)]
    assert 0.93 <= np.mean([low <= expected(0.8, spread) <= high for low, high in found]) <= 0.97


@pytest.mark.parametrize("seeds, spread", [(3, 0.05), (5, 0.1), (10, 0.0)])
def test_intervals_of_a_macro_f1_cover_the_truth_at_their_rate(seeds, spread):
    """Three classes, one of them rare. The truth: a great many examples and seeds."""

    def draw(seeds, examples):
        labels = rng.choice(3, examples, p=[0.6, 0.3, 0.1])
        (correct,) = right(rng, (0.75,), seeds, examples, spread, noise=0.5)
        return labels, np.where(correct, labels, (labels + 1) % 3)

    rng = np.random.default_rng(3)
    truth = np.mean([macro_f1(*draw(200, 4000)).mean() for _ in range(10)])
    found = [estimate(macro_f1(*draw(seeds, 500))).interval() for _ in range(1000)]
    assert 0.925 <= np.mean([low <= truth <= high for low, high in found]) <= 0.975


def test_a_mixed_model_finds_the_same_variances():
    """statsmodels' crossed random effects, fitted by restricted maximum likelihood to the same numbers."""
    rng = np.random.default_rng(4)
    values = 0.3 + rng.normal(0, 0.5, (6, 1)) + rng.normal(0, 1, 25) + rng.normal(0, 0.7, (6, 25))
    rows = pd.DataFrame([(s, e, values[s, e]) for s in range(6) for e in range(25)], columns=["s", "e", "value"])
    parts = {"s": "0 + C(s)", "e": "0 + C(e)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = smf.mixedlm("value ~ 1", rows, groups=np.ones(len(rows)), vc_formula=parts).fit(reml=True)
    found = estimate(values)
    assert found.mean == pytest.approx(fitted.params["Intercept"], abs=1e-6)
    assert found.error == pytest.approx(fitted.bse["Intercept"], rel=1e-3)


def test_the_multibootstrap_finds_the_same_error():
    """Sellam et al. 2022, "The MultiBERTs", section 4: seeds and examples are resampled, with replacement.

    It counts the interaction about three times, so the two are compared where that is small.
    """
    rng = np.random.default_rng(5)
    ours, theirs = right(rng, (0.83, 0.8), seeds=10, examples=800, spread=0.03, own=0.4, noise=0.05)
    values, sample = ours.astype(float) - theirs, []
    for _ in range(3000):
        seeds, examples = rng.integers(0, 10, 10), rng.integers(0, 800, 800)
        sample.append(values[np.ix_(seeds, examples)].mean())
    assert estimate(values).error == pytest.approx(np.std(sample), rel=0.08)


def test_without_interaction_and_seeds_it_is_the_paired_t_test():
    values = np.random.default_rng(6).normal(0.1, 1, 50)
    found = estimate(np.tile(values, (4, 1)))
    assert found.error == pytest.approx(values.std(ddof=1) / np.sqrt(50)) and found.freedom == pytest.approx(49)
    assert found.p_value() == pytest.approx(2 * t.sf(abs(found.mean) / found.error, 49))
    alone = estimate(values)
    assert (alone.error, alone.freedom) == (pytest.approx(found.error), 49)


def test_with_examples_alike_it_is_the_t_test_of_the_seeds():
    by_seed = np.random.default_rng(7).normal(size=5)
    found = estimate(np.tile(by_seed[:, None], (1, 30)))
    assert found.error == pytest.approx(by_seed.std(ddof=1) / np.sqrt(5)) and found.freedom == pytest.approx(4)


@pytest.mark.parametrize("values", [np.zeros((3, 5)), np.ones((1, 5))])
def test_values_that_do_not_vary(values):
    found = estimate(values)
    assert found.error == 0 and found.interval() == (found.mean, found.mean)
    with pytest.raises(ValueError, match="One example says nothing"):
        estimate(values[:, :1])


def verdicts(repetitions, seed, gain, **how):
    rng = np.random.default_rng(seed)
    return [compare(*classifiers(rng, gain, **how)) for _ in range(repetitions)]


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_false_alarms_stay_at_their_rate(seeds):
    found = verdicts(500, 8, 0.0, seeds=seeds, examples=2000, spread=0.025)
    assert np.mean([c.verdict in ("better", "worse") for c in found]) <= 0.07  # 5%, and what 500 repetitions may stray


def test_an_effect_of_the_detectable_size_is_found_four_times_in_five():
    detectable, rng = np.median([c.detectable for c in verdicts(100, 9, 0.0, spread=0.03)]), np.random.default_rng(10)
    pairs = [classifiers(rng, detectable, spread=0.03) for _ in range(150)]
    better = [compare(labels, ours, theirs).verdict for labels, ours, theirs in pairs]
    worse = [compare(labels, theirs, ours).verdict for labels, ours, theirs in pairs]
    assert 0.68 <= better.count("better") / 150 <= 0.95 and better.count("better") == worse.count("worse")


def test_no_difference_is_a_finding_where_there_is_enough_data():
    large = {"seeds": 10, "examples": 10000, "spread": 0.003}
    assert [c.verdict for c in verdicts(10, 11, 0.0, **large)].count("no difference that matters") >= 9
    assert {c.verdict for c in verdicts(10, 12, 0.03, **large)} == {"better"}


@pytest.mark.parametrize("seeds", [3, 10])
def test_a_difference_at_the_margin_is_seldom_called_none(seeds):
    found = verdicts(150, 13, MARGIN, seeds=seeds, examples=2000, spread=0.02)
    # 5%, and what 150 repetitions may stray
    assert np.mean([c.verdict == "no difference that matters" for c in found]) <= 0.10


def test_little_data_is_inconclusive():
    assert [c.verdict for c in verdicts(50, 14, 0.01, seeds=3, examples=100)].count("inconclusive") >= 40


def test_holm_is_that_of_statsmodels():
    for p_values in ([0.03], [0.01, 0.04, 0.03, 0.005], [0.2, 0.2, 0.9], [0.0, 1.0]):
        assert holm(p_values).tolist() == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_mcnemar_and_holm_keep_their_rate():
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(600):
        labels, ours, theirs = classifiers(rng, seeds=1, examples=500)
        p_values.append(exact_mcnemar(labels, ours[0], theirs[0]))
    p_values = np.reshape(p_values, (-1, 6))
    assert (p_values < 0.05).mean() <= 0.07  # 5%, and what 600 repetitions may stray
    assert np.mean([(holm(row) < 0.05).any() for row in p_values]) <= 0.12


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(5)
    labels, predictions = rng.integers(0, 3, 50), rng.integers(0, 3, (2, 50))
    for seed in range(2):
        assert accuracy(labels, predictions)[seed].mean() == pytest.approx(accuracy_score(labels, predictions[seed]))
        f1 = f1_score(labels, predictions[seed], average="macro")
        assert macro_f1(labels, predictions)[seed].mean() == pytest.approx(f1)


def test_the_span_f1_has_the_error_of_jackknife_and_bootstrap():
    rng = np.random.default_rng(7)
    gold = rng.poisson(2, 300)
    predicted = np.maximum(gold + rng.integers(-2, 3, 300), 0)
    right = rng.binomial(np.minimum(gold, predicted), 0.6)
    counts = np.stack([right, predicted, gold], axis=1)  # (N, 3)

    def f1(some):
        right, predicted, gold = some.sum(axis=0)
        return 2 * right / (predicted + gold)

    found = estimate(span_f1(counts[None]))
    assert found.mean == pytest.approx(f1(counts))
    without = np.array([f1(np.delete(counts, i, axis=0)) for i in range(300)])
    assert found.error == pytest.approx(np.sqrt(299 * without.var()), rel=0.02)
    drawn = [f1(counts[rng.integers(0, 300, 300)]) for _ in range(2000)]
    assert found.error == pytest.approx(np.std(drawn), rel=0.08)


def test_a_classifier_against_itself_does_not_differ():
    labels, ours, _ = classifiers(np.random.default_rng(6))
    for metric in (accuracy, macro_f1):
        found = compare(labels, ours, ours, metric)
        assert (found.difference, found.low, found.high) == (0, 0, 0)
        assert found.verdict == "no difference that matters"


def test_predictions_that_do_not_pair_are_refused():
    labels, ours, theirs = classifiers(np.random.default_rng(8))
    with pytest.raises(ValueError, match=r"Paired predictions need one shape, \(seeds, 1000 examples\)"):
        compare(labels, ours, theirs[:3])
    with pytest.raises(ValueError, match="Paired predictions need one shape"):
        compare(labels[:10], ours, theirs)


@pytest.mark.parametrize("overconfidence", [0.5, 1.0, 2.0])
def test_temperature_undoes_overconfidence(overconfidence):
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, 20_000)
    labels = rng.random(20_000) < 1 / (1 + np.exp(-honest))
    said = overconfidence * honest
    assert fit_temperature(labels, said) == pytest.approx(overconfidence, rel=0.05)
    assert calibration_error(labels, honest) < 0.01
    assert (calibration_error(labels, said) > 0.05) == (overconfidence != 1)


def test_calibration_error_by_hand():
    """Four of five right at a confidence of 90%, and one of two at 60%: (5 x 0.1 + 2 x 0.1) / 7."""
    odds = np.log([9] * 5 + [1.5] * 2)
    assert calibration_error([1, 1, 1, 1, 0, 1, 0], odds) == pytest.approx(0.1)
    assert calibration_error([1, 0], [800.0, -800.0]) == 0
