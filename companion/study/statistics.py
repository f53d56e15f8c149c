"""How sure are we? Intervals, tests and a verdict for two classifiers on the same examples, in closed form.

Predictions are arrays (S, N): S seeds, each trained separately, on the same N test examples with labels (N,).
Seeds and examples are both random: other seeds and other examples would have given another score.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import t
from statsmodels.stats.contingency_tables import mcnemar

MARGIN = 0.01  # a difference of less than one point does not matter in practice
LEVEL = 0.05
VERDICTS = ("better", "worse", "no difference that matters", "inconclusive")


def accuracy(labels, predictions):
    """What each example adds to the accuracy, 0 or 1: (N,), (S, N) -> (S, N). A row's mean is the seed's accuracy."""
    return (np.asarray(predictions) == labels).astype(float)


def macro_f1(labels, predictions):
    """What each example adds to the macro-F1: (N,), (S, N) -> (S, N). A row's mean is the seed's macro-F1.

    Macro-F1 is no mean over examples; to first order it is one, of these values (the infinitesimal jackknife,
    Efron 1982, chapter 6).
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    added = []
    for label in np.unique(labels):
        named, present = predictions == label, labels == label
        counted = named + present.astype(float)  # F1 is 2 * mean(named & present) / mean(named + present)
        whole = counted.mean(axis=1, keepdims=True)
        f1 = 2 * (named & present).mean(axis=1, keepdims=True) / whole
        added.append(f1 + (2 * (named & present) - f1 * counted) / whole)
    return np.mean(added, axis=0)


def span_f1(counts):
    """What each text adds to the F1 of spans, (right, predicted, gold): (S, N, 3) -> (S, N). A row's mean is its F1.

    As in `macro_f1`: the F1 of all texts' spans together is a mean over texts only to first order.
    """
    right, predicted, gold = np.moveaxis(np.asarray(counts, float), 2, 0)  # (S, N) each
    counted = predicted + gold  # F1 is 2 * mean(right) / mean(counted), and 0 where there is no span at all
    whole = np.maximum(counted.mean(axis=1, keepdims=True), 1e-12)
    f1 = 2 * right.mean(axis=1, keepdims=True) / whole
    return f1 + (2 * right - f1 * counted) / whole


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and examples, its standard error, and the degrees of freedom of that error."""

    mean: float
    error: float
    freedom: float

    def interval(self, level: float = 1 - LEVEL) -> tuple[float, float]:
        """The confidence interval, by Student's t."""
        half = float(t.ppf((1 + level) / 2, self.freedom)) * self.error
        return self.mean - half, self.mean + half

    def p_value(self) -> float:
        """Of a true mean of 0; two-sided."""
        return 2 * self._tail(abs(self.mean))

    def p_equivalence(self, margin: float = MARGIN) -> float:
        """Of a true mean outside the margin: the larger p-value of two one-sided tests (Schuirmann 1987)."""
        return self._tail(margin - abs(self.mean))

    def detectable(self) -> float:
        """The smallest true mean that would be told from 0 four times in five."""
        return float(t.ppf(1 - LEVEL / 2, self.freedom) + t.ppf(0.8, self.freedom)) * self.error

    def _tail(self, distance: float) -> float:
        return float(t.sf(distance / max(self.error, 1e-12), self.freedom))


def estimate(values) -> Estimate:
    """The mean of values (S, N), where both the S seeds and the N examples are random samples.

    A two-way analysis of variance with random effects and without replication: seeds, examples, and what is left
    (their interaction) have a mean square each, and the mean's variance is (seeds + examples - rest) / (S * N). Its
    degrees of freedom follow Satterthwaite (1946), with two changes found by simulation (tests/test_statistics.py).
    With few seeds their mean square is often far too small by chance. So the degrees of freedom are computed from
    (1 + 6 / (S - 1)^2) times this mean square, and the variance is at least (rest / 4) / (S * N).
    With one seed: the examples alone. Values that do not vary have an error of 0.
    """
    values = np.atleast_2d(np.asarray(values, float))
    (seeds, examples), mean = values.shape, float(values.mean())
    by_seed, by_example = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    if examples == 1:
        raise ValueError("One example says nothing about the others; give at least two.")
    of_examples = seeds * by_example.var(ddof=1)
    if seeds == 1:
        return Estimate(mean, float(np.sqrt(of_examples / examples)), examples - 1)
    of_seeds = examples * by_seed.var(ddof=1)
    rest = ((values - by_seed - by_example + mean) ** 2).sum() / ((seeds - 1) * (examples - 1))
    variance = max(of_seeds + of_examples - rest, rest / 4)
    enlarged = (1 + 6 / (seeds - 1) ** 2) * of_seeds
    parts = enlarged**2 / (seeds - 1) + of_examples**2 / (examples - 1) + rest**2 / ((seeds - 1) * (examples - 1))
    whole = max(enlarged + of_examples - rest, variance)
    freedom = max(whole**2 / parts, 1) if parts > 0 else examples - 1
    return Estimate(mean, float(np.sqrt(variance / values.size)), float(freedom))


@dataclass
class Comparison:
    """One classifier against another. Scores are shares; `difference` > 0 says that the first is better."""

    difference: float
    low: float  # 95% confidence interval
    high: float
    p_value: float  # of no difference
    p_equivalence: float  # of a difference as large as the margin, or larger
    p_values: list[float]  # exact McNemar, one per seed
    detectable: float  # the smallest true difference that this test would find four times in five
    verdict: str  # of this comparison alone; of several, only after Holm's correction


def compare(labels, ours, theirs, metric=accuracy, margin: float = MARGIN) -> Comparison:
    """Is the first better? Two sets of predictions (S, N), paired by seed and by example."""
    labels, ours, theirs = map(np.asarray, (labels, ours, theirs))
    shapes = {ours.shape, theirs.shape}
    if len(shapes) != 1 or ours.shape[1:] != labels.shape:
        raise ValueError(f"Paired predictions need one shape, (seeds, {len(labels)} examples), not {sorted(shapes)}.")
    found = estimate(metric(labels, ours) - metric(labels, theirs))
    (low, high), p_value, p_equivalence = found.interval(), found.p_value(), found.p_equivalence(margin)
    p_values = [exact_mcnemar(labels, one, other) for one, other in zip(ours, theirs, strict=True)]
    said = judge(found.mean, p_value, p_equivalence)
    return Comparison(found.mean, low, high, p_value, p_equivalence, p_values, found.detectable(), said)


def judge(difference: float, p_value: float, p_equivalence: float) -> str:
    """One of VERDICTS. "no difference that matters" is a finding of its own; "inconclusive" is the lack of one."""
    if p_equivalence < LEVEL:
        return "no difference that matters"
    if p_value < LEVEL:
        return "better" if difference > 0 else "worse"
    return "inconclusive"


def exact_mcnemar(labels, ours, theirs) -> float:
    """P-value of equal error rates, from the examples that one of two has right (McNemar 1947): (N,) each."""
    right, other = ours == labels, theirs == labels
    table = [[(right & other).sum(), (right & ~other).sum()], [(~right & other).sum(), (~right & ~other).sum()]]
    return float(mcnemar(table, exact=True).pvalue)


def holm(p_values) -> np.ndarray:
    """P-values corrected for their number (Holm 1979). That of statsmodels collects garbage at each call: slow."""
    p_values = np.asarray(p_values, float)
    order, corrected = np.argsort(p_values), np.empty(len(p_values))
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)).clip(max=1)
    return corrected


def calibration_error(labels, log_odds, bins: int = 10) -> float:
    """Expected calibration error of two classes (Guo et al. 2017, section 2), from log p(1)/p(0): (N,), (N,).

    The gap between confidence and accuracy in each bin of equal width, averaged with the bins' shares.
    """
    odds = np.asarray(log_odds, float)
    confidence, right = expit(np.abs(odds)), (odds > 0) == np.asarray(labels)
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(places, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(odds))


def fit_temperature(labels, log_odds) -> float:
    """The T with which log-odds / T fit the labels best (Guo et al. 2017, section 4.2); above 1 for overconfidence.

    Fit it on validation. Accuracy is the same for every T.
    """
    signed = np.where(np.asarray(labels) == 1, 1, -1) * np.asarray(log_odds, float)
    found = minimize_scalar(lambda t: np.logaddexp(0, -signed / np.exp(t)).mean(), bounds=(-3, 3), method="bounded")
    return float(np.exp(found.x))
