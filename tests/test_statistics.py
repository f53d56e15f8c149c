"""The statistics, on simulated classifiers whose truth is known."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import accuracy_score, f1_score

from companion import evaluation
from companion.evaluation import (
    accuracy,
    calibration_error,
    compare,
    draws,
    exact_mcnemar,
    fit_temperature,
    holm,
    interval,
    macro_f1,
)


def classifiers(rng, gain=0.0, seeds=5, examples=1000, spread=0.01):
    """Two classifiers (S, N) on labels (N,): examples hard for both, or for one in all its seeds; seeds have luck."""
    labels = rng.integers(0, 2, examples)
    hard = rng.normal(size=examples)
    both = []
    for truth in (0.8 + gain, 0.8):
        own, luck = rng.normal(0, 0.25, examples), rng.normal(0, spread, (seeds, 1))
        noisy = hard + own + rng.normal(0, 0.2, (seeds, examples))
        wrong = noisy > norm.ppf(truth + luck) * np.sqrt(1 + 0.25**2 + 0.2**2)
        both.append(np.where(wrong, 1 - labels, labels))
    return labels, *both


@pytest.fixture(scope="module")
def without_gain():
    """What 300 repetitions of a comparison without any true difference say."""
    rng = np.random.default_rng(0)
    return [compare(*classifiers(rng), count=400) for _ in range(300)]


def test_the_interval_covers_the_truth_at_its_rate(without_gain):
    covered = np.mean([c.low <= 0 <= c.high for c in without_gain])
    assert 0.92 <= covered <= 0.995  # 95% asked; drawing seeds and examples both errs to the careful side
    assert all((c.p_value < 0.05) == (c.low > 0 or c.high < 0) for c in without_gain if abs(c.p_value - 0.05) > 0.03)


def test_false_alarms_stay_at_their_rate(without_gain):
    alarms = np.mean([c.verdict in ("helps", "hurts") for c in without_gain])
    assert alarms <= 0.07


@pytest.mark.parametrize("seeds", [2, 3])
def test_few_seeds_do_not_raise_false_alarms(seeds):
    """Where half the chance lies in the training, and two or three seeds have to say how much."""
    rng = np.random.default_rng(10)
    pairs = (classifiers(rng, 0.0, seeds, 2000, spread=0.007) for _ in range(600))
    assert np.mean([compare(*pair, count=300).verdict in ("helps", "hurts") for pair in pairs]) <= 0.08


def test_the_chance_in_training_has_its_true_size():
    """On average over many trios of seeds, of examples whose number makes their own chance vanish."""
    rng, size = np.random.default_rng(11), 4000
    labels, found = np.zeros(size, int), []
    for _ in range(200):
        rate = 0.2 + rng.normal(0, 0.05, (3, 1))
        found.append(draws(labels, (rng.random((3, size)) < rate).astype(int), count=400)[0].var())
    assert np.mean(found) == pytest.approx(0.05**2 / 3, rel=0.15)


def test_mcnemar_and_holm_keep_their_rate():
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(600):
        labels, ours, theirs = classifiers(rng, seeds=1, examples=500, spread=0)
        p_values.append(exact_mcnemar(labels, ours[0], theirs[0]))
    p_values = np.reshape(p_values, (-1, 6))
    assert (p_values < 0.05).mean() <= 0.07  # 5%, and what 600 repetitions may stray
    assert np.mean([(holm(row) < 0.05).any() for row in p_values]) <= 0.12


@pytest.mark.parametrize("sign, verdict", [(1, "helps"), (-1, "hurts")])
def test_an_effect_of_the_detectable_size_is_found_four_times_in_five(without_gain, sign, verdict):
    detectable = np.median([c.detectable for c in without_gain])
    rng = np.random.default_rng(2)
    found = np.mean([compare(*classifiers(rng, sign * detectable), count=400).verdict == verdict for _ in range(150)])
    assert 0.68 <= found <= 0.95


def test_no_difference_is_a_finding_where_there_is_enough_data():
    rng = np.random.default_rng(3)
    verdicts = [
        compare(*classifiers(rng, 0.0, seeds=10, examples=10000, spread=0.001), count=400).verdict for _ in range(10)
    ]
    assert verdicts.count("no difference that matters") >= 9
    verdicts = [
        compare(*classifiers(rng, 0.03, seeds=10, examples=10000, spread=0.001), count=400).verdict for _ in range(10)
    ]
    assert verdicts.count("helps") == 10


@pytest.mark.parametrize("seeds", [3, 10])
def test_a_difference_at_the_margin_is_seldom_called_none(seeds):
    rng = np.random.default_rng(5)
    pairs = (classifiers(rng, evaluation.MARGIN, seeds, 2000, spread=0.005) for _ in range(150))
    said = [compare(*pair, count=300).verdict for pair in pairs]
    assert said.count("no difference that matters") / len(said) <= 0.10  # 5%, and what 150 repetitions may stray


def test_little_data_cannot_tell():
    rng = np.random.default_rng(4)
    verdicts = [compare(*classifiers(rng, 0.01, seeds=3, examples=100)).verdict for _ in range(50)]
    assert verdicts.count("cannot tell") >= 40


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(5)
    labels, predictions = rng.integers(0, 3, 50), rng.integers(0, 3, (2, 50))
    whole = np.ones((1, 50))
    for seed in range(2):
        assert accuracy(labels, predictions, whole)[seed, 0] == pytest.approx(accuracy_score(labels, predictions[seed]))
        f1 = f1_score(labels, predictions[seed], average="macro")
        assert macro_f1(labels, predictions, whole)[seed, 0] == pytest.approx(f1)


def test_a_classifier_against_itself_differs_in_no_draw():
    labels, ours, _ = classifiers(np.random.default_rng(6))
    for metric in (accuracy, macro_f1):
        one, other = draws(labels, ours, ours, metric=metric)
        assert np.array_equal(one, other) and one.std() > 0
        low, high = interval(one)
        assert low < metric(labels, ours, np.ones((1, len(labels)))).mean() < high
    assert compare(labels, ours, ours).verdict == "no difference that matters"


def test_the_same_seed_gives_the_same_numbers():
    data = classifiers(np.random.default_rng(7))
    assert compare(*data) == compare(*data)
    assert compare(*data).low != compare(*data, seed=1).low


def test_predictions_that_do_not_pair_are_refused():
    labels, ours, theirs = classifiers(np.random.default_rng(8))
    with pytest.raises(ValueError, match=r"Paired predictions need one shape, \(seeds, 1000 examples\)"):
        compare(labels, ours, theirs[:3])
    with pytest.raises(ValueError, match="Paired predictions need one shape"):
        evaluation.draws(labels[:10], ours)


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


def test_a_handful_of_examples_makes_no_empty_draw():
    labels, predictions = np.array([0, 1]), np.array([[0, 1]])
    assert (draws(labels, predictions) == 1).all()
