"""The challenge set: what a classifier of film reviews should be able to do, capability by capability.

In the manner of CheckList (Ribeiro et al. 2020) and contrast sets (Gardner et al. 2020). Four kinds of case:

    minimum functionality   a text whose label is beyond doubt
    minimal pair            two texts that differ in a few words and in the label, written by hand
    invariance              a text and the same with something changed that says nothing about the film
    direction               a text and the same with a praising, or a damning, sentence added
"""

import json
import re
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from statsmodels.stats.proportion import proportion_confint

FOLDER = Path(__file__).parents[1] / "assets" / "challenge"
TOLERANCE = 0.1  # so far may an added verdict move the probability the wrong way: a saturated model cannot gain
CONTRACTIONS = {
    r"\bcannot\b": "can't",
    r"\bwill not\b": "won't",
    r"\b(is|are|was|were|do|does|did|have|has|had|would|could|should) not\b": r"\1n't",
    r"\bI am\b": "I'm",
    r"\b([Ii]t|[Tt]hat|[Tt]here) is\b": r"\1's",
    r"\b([Tt]hey|[Yy]ou|[Ww]e) are\b": r"\1're",
    r"\b(I|[Yy]ou|[Ww]e) have\b": r"\1've",
    r"\b(I|[Yy]ou|[Ww]e) will\b": r"\1'll",
}


def load_challenge(per_capability: int = 320) -> pd.DataFrame:
    """The columns kind, capability, template, case, role, label, text; the same texts each time.

    A case is one row (minimum functionality) or two: the two of a pair, or a text and what became of it, whose role is
    "changed". label: 0 or 1, and -1 where what counts is whether the prediction moves. template: cases of one template
    are alike, so intervals are clustered by it; a pair is a cluster of its own.
    """
    stored = json.loads((FOLDER / "templates.json").read_text(encoding="utf-8"))
    templates, lexicon = stored["templates"], stored["lexicon"]
    size = pd.Series([template["capability"] for template in templates]).value_counts()
    rows, cases = [], count()
    for number, template in enumerate(templates):
        rng, seen = np.random.default_rng(number), set()
        label = {"negative": 0, "positive": 1}.get(template["label"], -1)
        wanted = -(-per_capability // size[template["capability"]])
        for _ in range(20 * wanted):
            if len(seen) == wanted:
                break
            texts = write(template, lexicon, rng)
            if texts[0] not in seen:
                seen.add(texts[0])
                case = next(cases)
                for role, text in zip(("text", "changed"), texts, strict=False):
                    rows.append((template["kind"], template["capability"], number, case, role, label, text))
    lines = (FOLDER / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    for first, second in zip(lines[::2], lines[1::2], strict=True):
        case = next(cases)
        for row in map(json.loads, (first, second)):
            label = ["negative", "positive"].index(row["label"])
            rows.append(("minimal pair", row["capability"], len(templates) + case, case, "text", label, row["text"]))
    return pd.DataFrame(rows, columns=["kind", "capability", "template", "case", "role", "label", "text"])


def write(template: dict, lexicon: dict, rng) -> list[str]:
    """[the text], or [the text, the changed text]. Slots of one name, digits aside, get different words."""
    words, vary = {}, template.get("vary")
    for slot in dict.fromkeys(re.findall(r"{(\w+)}", template["text"])):
        name = slot.rstrip("0123456789")
        taken = {word for other, word in words.items() if other.rstrip("0123456789") == name}
        words[slot] = draw([word for word in lexicon[name] if word not in taken], rng)
    text = template["text"].format(**words)
    if vary is None:
        return [text]
    if vary in words:
        other = draw([word for word in lexicon[vary] if word != words[vary]], rng)
        return [text, template["text"].format(**words | {vary: other})]
    return [text, CHANGES[vary](text, rng) if vary in CHANGES else f"{text} {draw(lexicon[vary], rng)}"]


def draw(options: list, rng):
    return options[rng.integers(len(options))]


def typo(text: str, rng) -> str:
    """Two neighbouring letters inside one of the longer words change places."""
    places = [m.start() + i for m in re.finditer(r"[A-Za-z]{5,}", text) for i in range(1, len(m[0]) - 2)]
    i = draw([i for i in places if text[i] != text[i + 1]], rng)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def contract(text: str, rng) -> str:
    for long, short in CONTRACTIONS.items():
        text = re.sub(long, short, text)
    return text


def strip_punctuation(text: str, rng) -> str:
    return re.sub(r"[,;:.!]", "", text)


CHANGES = {"typo": typo, "contraction": contract, "punctuation": strip_punctuation}


def failures(cases: pd.DataFrame, log_odds) -> pd.DataFrame:
    """A row for each case: kind, capability, template, case, and `failed`, the share of the seeds that fail it.

    log_odds: log p(positive)/p(negative) of each text of `load_challenge` by each seed, (S, N).
    A text is failed with the wrong label; a pair unless both texts get theirs; invariance when the prediction changes;
    direction when praise makes the text less positive by more than TOLERANCE, or a damning sentence more so.
    """
    log_odds = np.atleast_2d(np.asarray(log_odds, float))
    if log_odds.shape[1] != len(cases):
        raise ValueError(f"There are {len(cases)} texts in the challenge set, and log-odds for {log_odds.shape[1]}.")
    numbers = cases["case"].to_numpy()
    first, last = np.unique(numbers, return_index=True)[1], np.flatnonzero(np.diff(numbers, append=-1))
    rows = cases.iloc[first][["kind", "capability", "template", "case"]].reset_index(drop=True)
    positive, wrong = log_odds > 0, (log_odds > 0) != (cases["label"].to_numpy() == 1)  # (S, N)
    moved = expit(log_odds[:, last]) - expit(log_odds[:, first])  # (S, cases)
    wanted = np.where(rows["capability"].eq("praise added"), 1, -1)
    failed = {
        "minimum functionality": wrong[:, first],
        "minimal pair": wrong[:, first] | wrong[:, last],
        "invariance": positive[:, first] != positive[:, last],
        "direction": wanted * moved < -TOLERANCE,
    }
    rows["failed"] = 0.0
    for kind, by_seed in failed.items():
        here = rows["kind"].eq(kind)
        rows.loc[here, "failed"] = by_seed[:, here].mean(axis=0)
    return rows


def failure_rates(failed: pd.DataFrame) -> pd.DataFrame:
    """By kind and capability: `rate`, and `low` and `high`, its 95% Wilson interval clustered by template."""
    groups = failed.groupby(["kind", "capability"], sort=False)
    rates = {name: clustered_wilson(group["failed"], group["template"]) for name, group in groups}
    table = pd.DataFrame.from_dict(rates, orient="index", columns=["rate", "low", "high"])
    return table.set_axis(pd.MultiIndex.from_tuples(table.index, names=["kind", "capability"]))


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
