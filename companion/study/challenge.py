"""The challenge set: what a classifier of film reviews should be able to do, capability by capability.

It follows CheckList (Ribeiro et al. 2020) and contrast sets (Gardner et al. 2020), with four kinds of case:

    minimum functionality   a text whose label is beyond doubt
    minimal pair            two texts that differ in a few words and in the label, written one by one
    invariance              a text, and the same text with a change that says nothing about the film
    direction               a text, and the same text with a praising or a damning sentence added

A negated, contrasted or modal text also has a twin: the same words without the negation, the deciding half alone, or
the plain assertion. A model that misreads the twin fails before the difficulty comes in.
"""

import json
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from statsmodels.stats.proportion import proportion_confint

from companion.study.intervals import auc_influence, clustered_mean
from companion.study.templates import fill

FOLDER = Path(__file__).parents[1] / "assets" / "challenge"
TOLERANCE = 0.1  # an added verdict may move the probability the wrong way by this much: a saturated model cannot gain
LABELS = {"negative": 0, "positive": 1, None: -1}
CHANCE = {"minimum functionality": 0.5, "minimal pair": 0.75, "invariance": 0.5, "direction": 0.25}  # a coin's failures
INDEX = ["kind", "capability"]


def load_challenge(per_capability: int = 320) -> pd.DataFrame:
    """Return the columns kind, capability, template, case, role, label, text; the same texts each time.

    role: "text" (a pair has two of them), "changed" for what became of a text, and "twin" for the twin of the text in
    the row above. label: 0 or 1, and -1 where what counts is whether the prediction moves. template: cases of one
    template are alike, so intervals are clustered by it; a pair is a cluster of its own.
    """
    stored = json.loads((FOLDER / "templates.json").read_text(encoding="utf-8"))
    templates, lexicon = stored["templates"], stored["lexicon"]
    size = pd.Series([template["capability"] for template in templates]).value_counts()
    rows, cases = [], count()

    def add(kind, source, template, case, texts):
        for role, text in texts.items():
            label = source["twin"]["label"] if role == "twin" else source["label"]
            rows.append((kind, source["capability"], template, case, role, LABELS[label], text))

    for number, template in enumerate(templates):
        rng, seen = np.random.default_rng(number), set()
        wanted = -(-per_capability // size[template["capability"]])
        for _ in range(20 * wanted):
            if len(seen) == wanted:
                break
            texts = fill(template, lexicon, rng)
            if texts["text"] not in seen:
                seen.add(texts["text"])
                add(template["kind"], template, number, next(cases), texts)
    lines = (FOLDER / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    for pair in zip(lines[::2], lines[1::2], strict=True):
        case = next(cases)
        for source in map(json.loads, pair):
            texts = {"text": source["text"]} | ({"twin": source["twin"]["text"]} if "twin" in source else {})
            add("minimal pair", source, len(templates) + case, case, texts)
    return pd.DataFrame(rows, columns=["kind", "capability", "template", "case", "role", "label", "text"])


def failures(cases: pd.DataFrame, log_odds) -> pd.DataFrame:
    """Return a row for each case: kind, capability, template, case, and `failed`, the share of the seeds that fail it.

    log_odds: log p(positive)/p(negative) of each text of `load_challenge` by each seed, (S, N) or (N,).
    A text fails with the wrong label, and a pair unless both of its texts have the right one. Invariance fails when the
    prediction changes; direction, when the probability moves against the added verdict by more than TOLERANCE.
    Twins do not count here. Raises ValueError unless there is a finite number for each text.
    """
    log_odds = checked(cases, log_odds)
    texts = np.flatnonzero(cases["role"].ne("twin"))
    numbers = cases["case"].to_numpy()[texts]
    first, last = texts[np.diff(numbers, prepend=-1) != 0], texts[np.diff(numbers, append=-1) != 0]
    rows = cases.iloc[first][["kind", "capability", "template", "case"]].reset_index(drop=True)
    positive, wrong = log_odds > 0, misread(cases, log_odds)
    moved = expit(log_odds[:, last]) - expit(log_odds[:, first])  # (S, cases)
    wanted = np.where(rows["capability"].eq("praise added"), 1, -1)
    failed = {
        "minimum functionality": wrong[:, first],
        "minimal pair": wrong[:, first] | wrong[:, last],
        "invariance": positive[:, first] != positive[:, last],
        "direction": wanted * moved < -TOLERANCE,
    }
    rows["failed"] = np.select([rows["kind"].eq(kind) for kind in failed], [by.mean(axis=0) for by in failed.values()])
    return rows


def failure_rates(failed: pd.DataFrame) -> pd.DataFrame:
    """Return `rate`, `low`, `high` and `chance` by kind and capability, from a table of `failures`.

    low and high: the 95% Wilson interval, clustered by template. chance: how often a coin fails, tossed for each text
    and sure of its answer. It differs between kinds, so compare a rate with the chance of its own row.
    """
    groups = failed.groupby(INDEX, sort=False)
    rates = {name: (*clustered_wilson(group["failed"], group["template"]), CHANCE[name[0]]) for name, group in groups}
    return indexed(rates, INDEX, ["rate", "low", "high", "chance"])


def orderings(cases: pd.DataFrame, log_odds) -> pd.DataFrame:
    """Return how often a positive text has higher log-odds than a negative one, by kind and capability.

    Unlike a failure rate, this does not depend on the threshold. In minimum functionality each positive text is
    compared with each negative one (the AUC), in a minimal pair with its partner, and in the rows of kind "twin" with
    its twin, if the two labels differ. Columns: `ordered`, where ties count half; `low` and `high`, its 95% interval,
    clustered by template; and `chance`, a coin's 0.5. log_odds and errors: as for `failures`.
    """
    log_odds, rows, cases = checked(cases, log_odds), {}, cases.reset_index(drop=True)
    for name, group in cases[cases["role"].ne("twin") & cases["label"].ge(0)].groupby(INDEX, sort=False):
        ones, zeros = (group[group["label"].eq(label)] for label in (1, 0))
        above, below = log_odds[:, ones.index], log_odds[:, zeros.index]
        if name[0] == "minimal pair":
            rows[name] = clustered_wilson(share_above(above, below), ones["template"])
        else:
            rows[name] = clustered_wilson(auc_influence(above, below), pd.concat([ones["template"], zeros["template"]]))
    turned = twins(cases).query("turns")
    one, zero = (turned["text"].where(turned["label"].eq(label), turned["twin"]) for label in (1, 0))
    turned = turned.assign(ordered=share_above(log_odds[:, one], log_odds[:, zero]))
    for capability, group in turned.groupby("capability", sort=False):
        rows["twin", capability] = clustered_wilson(group["ordered"], group["template"])
    return indexed(rows, INDEX, ["ordered", "low", "high"]).assign(chance=0.5)


def shifts(cases: pd.DataFrame, log_odds) -> pd.DataFrame:
    """Return how far the log-odds shift from a twin to its text, in the direction of the text's label.

    Only twins with the right label count. The index is kind, capability and `turns`: whether the two labels differ.
    Columns: `twin_failed`, the share of twins with the wrong label; of the texts whose twin is right, `failed`, the
    share with the wrong label, and `chance`, a coin's; `shift`, `low` and `high`, the mean shift with its 95% interval,
    clustered by template (NaN where no twin is right). log_odds and errors: as for `failures`.

    Where the label turns, a model that ignores the negation has a shift of 0 and fails every text. Where it stays, a
    negative shift is the cost of the other half or of the modal verb. Leaving out the coin's wrong twins gives even a
    coin a positive shift where the label turns, so read `shift` beside `failed`.
    """
    log_odds, rows, found = checked(cases, log_odds), {}, twins(cases)
    wrong, text, twin = misread(cases, log_odds), found["text"], found["twin"]
    right = ~wrong[:, twin]  # (S, twins)
    shift = (log_odds[:, text] - log_odds[:, twin]) * (2 * found["label"].to_numpy() - 1)
    weight = np.maximum(right.sum(axis=0), 1)
    found["right"] = right.mean(axis=0)
    found["failed"] = (right & wrong[:, text]).sum(axis=0) / weight  # the mean of the seeds whose twin is right
    found["shift"] = (right * shift).sum(axis=0) / weight
    for name, group in found.groupby([*INDEX, "turns"], sort=False):
        failed, shift = (clustered_mean(group[of], group["right"], group["template"]) for of in ("failed", "shift"))
        rows[name] = (1 - group["right"].mean(), failed[0], 0.5, *shift)
    return indexed(rows, [*INDEX, "turns"], ["twin_failed", "failed", "chance", "shift", "low", "high"])


def checked(cases: pd.DataFrame, log_odds) -> np.ndarray:
    log_odds = np.atleast_2d(np.asarray(log_odds, float))
    if log_odds.shape[1] != len(cases):
        raise ValueError(f"There are {len(cases)} texts in the challenge set, and log-odds for {log_odds.shape[1]}.")
    if not np.isfinite(log_odds).all():
        raise ValueError(f"{(~np.isfinite(log_odds)).sum()} of the log-odds are infinite or not a number.")
    return log_odds


def misread(cases: pd.DataFrame, log_odds) -> np.ndarray:
    return (log_odds > 0) != (cases["label"].to_numpy() == 1)  # (S, N)


def twins(cases: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each text that has a twin: its columns, the row numbers `text` and `twin`, and `turns`."""
    twin = np.flatnonzero(cases["role"].eq("twin"))
    rows = cases.iloc[twin - 1].reset_index(drop=True)
    if rows["role"].ne("text").any() or (rows["case"].to_numpy() != cases["case"].to_numpy()[twin]).any():
        raise ValueError("Each twin must be in the row below its text, as load_challenge returns them.")
    return rows.assign(text=twin - 1, twin=twin, turns=rows["label"].to_numpy() != cases["label"].to_numpy()[twin])


def share_above(above, below) -> np.ndarray:
    return ((above > below) + (above == below) / 2).mean(axis=0)  # over the seeds


def indexed(rows: dict, index: list, columns: list) -> pd.DataFrame:
    return pd.DataFrame(list(rows.values()), pd.MultiIndex.from_tuples(rows, names=index), columns)


def clustered_wilson(values, clusters) -> tuple[float, float, float]:
    """(mean, low, high) of values between 0 and 1 that are alike within their clusters: Wilson's 95% interval.

    It counts as many cases as, were they independent, would have the variance that the clusters show between them
    (Kish 1965, the design effect; Wilson 1927); where nothing varies, as many as there are clusters.
    """
    values, clusters = np.asarray(values, float), pd.factorize(np.asarray(clusters))[0]
    size = np.bincount(clusters)
    mean = values.mean()
    residual = np.bincount(clusters, weights=values) - mean * size
    variance = (residual**2).sum() / len(values) ** 2 * len(size) / max(len(size) - 1, 1)
    count = min(mean * (1 - mean) / variance, len(values)) if variance > 1e-12 else len(size)
    low, high = proportion_confint(mean * count, count, method="wilson")
    return float(mean), float(low), float(high)
