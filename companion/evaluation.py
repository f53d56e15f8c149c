"""How sure are we? Intervals, tests and a verdict for two classifiers on the same examples.

Predictions are arrays (S, N): S seeds, each trained anew, on the same N test examples with labels (N,).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

MARGIN = 0.01  # a difference smaller than one point matters to nobody
DRAWS = 10_000  # with fewer, a verdict may hang on which draws they were


def accuracy(labels, predictions, weights):
    """Share of examples that are right: (N,), (S, N), example weights (B, N) -> (S, B)."""
    return (predictions == labels) @ weights.T / weights.sum(axis=1)


def macro_f1(labels, predictions, weights):
    """F1 of each class, averaged over the classes: (N,), (S, N), example weights (B, N) -> (S, B)."""
    scores = []
    for label in np.unique(labels):
        hit = ((predictions == label) & (labels == label)) @ weights.T
        named, present = (predictions == label) @ weights.T, (labels == label) @ weights.T
        scores.append(2 * hit / np.maximum(named + present, 1))
    return np.mean(scores, axis=0)


@lru_cache(maxsize=8)  # one for each dataset of a table
def example_weights(examples: int, count: int, seed: int) -> np.ndarray:
    """How often each draw holds each example: (count, N), as bytes. Poisson: as good as multinomial, and quicker."""
    weights = np.random.default_rng(seed).poisson(1, (count, examples)).astype(np.uint8)
    weights[weights.sum(axis=1) == 0] = 1  # of a handful of examples a draw may hold none
    return weights


def draws(labels, *predictions, metric=accuracy, count: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Bootstrap of each classifier's score, all on the same draws: (classifiers, count).

    Seeds are drawn anew, and examples are: what differs between trainings and what differs between test sets both
    widen the interval. All seeds are scored on the same drawn examples, as they were on the same test set; to draw
    examples for each seed would shrink their share S-fold. (Paired, crossed: Owen 2007, "The pigeonhole bootstrap".)
    S seeds drawn anew show S - 1 of S parts of their variance, so their counts are stretched (Rao and Wu 1988).
    """
    shapes = {np.shape(p) for p in predictions}
    if len(shapes) != 1 or next(iter(shapes))[1:] != np.shape(labels):
        raise ValueError(f"Paired predictions need one shape, (seeds, {len(labels)} examples), not {sorted(shapes)}.")
    seeds, examples = predictions[0].shape
    of_seeds = np.random.default_rng([seed, seeds]).multinomial(seeds, np.full(seeds, 1 / seeds), count)  # (B, S)
    of_seeds = 1 + np.sqrt(seeds / max(seeds - 1, 1)) * (of_seeds - 1)
    of_examples = example_weights(examples, count, seed).astype(np.float32)  # (B, N)
    scores = [metric(np.asarray(labels), np.asarray(p), of_examples) for p in predictions]  # each (S, B)
    return np.array([(of_seeds.T * score).sum(axis=0) / seeds for score in scores])


def interval(sample, level: float = 0.95) -> tuple[float, float]:
    """The middle share of a bootstrap's draws."""
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass
class Comparison:
    """One classifier against another. Scores are shares; `difference` > 0 says that the first is better."""

    difference: float
    low: float  # 95% interval
    high: float
    p_value: float  # of no difference, by the draws' standard deviation
    p_values: list[float]  # exact McNemar, one a seed
    detectable: float  # the smallest true difference that this test would find four times in five
    verdict: str


def compare(
    labels, ours, theirs, metric=accuracy, margin: float = MARGIN, count: int = DRAWS, seed: int = 0
) -> Comparison:
    """Does the first help? Two sets of predictions (S, N), seed by seed and example by example.

    "no difference that matters" is a finding of its own (two one-sided tests at 5%: the 90% interval lies within the
    margin, Schuirmann 1987); "cannot tell" is the lack of one.
    """
    labels, ours, theirs = map(np.asarray, (labels, ours, theirs))
    difference = np.subtract(*draws(labels, ours, theirs, metric=metric, count=count, seed=seed))  # (B,)
    whole = np.ones((1, len(labels)))
    observed = float((metric(labels, ours, whole) - metric(labels, theirs, whole)).mean())
    (low, high), (inner_low, inner_high) = interval(difference), interval(difference, 0.90)
    if -margin < inner_low and inner_high < margin:
        verdict = "no difference that matters"
    elif low > 0 or high < 0:
        verdict = "helps" if low > 0 else "hurts"
    else:
        verdict = "cannot tell"
    detectable = float((norm.ppf(0.975) + norm.ppf(0.8)) * difference.std())
    p_value = float(2 * norm.sf(abs(observed) / max(difference.std(), 1e-12)))  # counted draws are too few in the tails
    p_values = [exact_mcnemar(labels, one, other) for one, other in zip(ours, theirs, strict=True)]
    return Comparison(observed, low, high, p_value, p_values, detectable, verdict)


def exact_mcnemar(labels, ours, theirs) -> float:
    """P-value of equal error rates, from the examples that one of two has right (McNemar 1947): (N,) each."""
    right, other = ours == labels, theirs == labels
    table = [[(right & other).sum(), (right & ~other).sum()], [(~right & other).sum(), (~right & ~other).sum()]]
    return float(mcnemar(table, exact=True).pvalue)


def holm(p_values) -> np.ndarray:
    """P-values made honest about their number (Holm 1979)."""
    return multipletests(p_values, method="holm")[1]


def calibration_error(labels, log_odds, bins: int = 10) -> float:
    """Expected calibration error of two classes (Guo et al. 2017, section 2), from log p(1)/p(0): (N,), (N,).

    How far confidence and accuracy lie apart: in each bin of equal width, averaged with the bins' shares.
    """
    odds = np.asarray(log_odds, float)
    confidence, right = expit(np.abs(odds)), (odds > 0) == np.asarray(labels)
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(places, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(odds))


def fit_temperature(labels, log_odds) -> float:
    """The T for which log-odds / T explain the labels best (Guo et al. 2017, section 4.2); above 1 for overconfidence.

    Fit it on validation: accuracy is the same for every T, so nothing is won by a look at test.
    """
    signed = np.where(np.asarray(labels) == 1, 1, -1) * np.asarray(log_odds, float)
    found = minimize_scalar(lambda t: np.logaddexp(0, -signed / np.exp(t)).mean(), bounds=(-3, 3), method="bounded")
    return float(np.exp(found.x))
