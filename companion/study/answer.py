"""The answer: does the CNN help? Computed from the results of the study, never typed."""

from contextlib import suppress

import numpy as np
import pandas as pd

from companion.study.results import encoders, of_encoder, paired
from companion.study.specs import HEADS, REGIMES, RIVALS
from companion.study.statistics import LEVEL, VERDICTS, accuracy, compare, estimate, holm, judge

DATASETS = {  # as the results name them: as the series does
    "cornell-movie-review-data/rotten_tomatoes": "rotten_tomatoes",
    "SetFit/sst2": "sst2",
    "SetFit/sst5": "sst5",
    "CogComp/trec": "trec",
    "stanfordnlp/imdb@5000": "imdb",
}
SOURCES = dict.fromkeys(list(DATASETS)[:3], "Rotten Tomatoes")  # they share sentences; all others stand alone
LADDER = ("mean", "mlp", "token_mlp", "cnn")  # from the simplest head to the largest change


def source(dataset: str) -> str:
    """Where a dataset's texts come from. A part of a dataset, or a sample of it, has its source."""
    name = dataset.split("~")[0].split("@")[0]
    return SOURCES.get(name, name)


def scores(examples: pd.DataFrame, dataset: str, metric=accuracy) -> pd.DataFrame:
    """Each classifier on a dataset: `score` (the mean over its seeds), `low`, `high` (95% interval), `seeds`."""
    rows = {}
    classifiers = examples.loc[examples["dataset"].eq(dataset), ["head", "regime"]].drop_duplicates()
    for classifier in classifiers.itertuples(index=False, name=None):
        labels, predictions = paired(examples, dataset, classifier)
        found = estimate(metric(labels, predictions))
        low, high = np.clip(found.interval(), 0, 1)
        rows[classifier] = {"score": found.mean, "low": low, "high": high, "seeds": len(predictions)}
    return pd.DataFrame(rows).T.rename_axis(["head", "regime"]).sort_index()


def comparisons(examples: pd.DataFrame, datasets, ours: tuple[str, str], rivals, **how) -> pd.DataFrame:
    """`compare_pairs` of one classifier with each of its rivals."""
    return compare_pairs(examples, datasets, [(ours, rival) for rival in rivals], **how)


def compare_pairs(examples: pd.DataFrame, datasets, pairs, **how) -> pd.DataFrame:
    """`compare` the two classifiers of each pair on each of the datasets, a row for each: `how` goes to `compare`.

    A pair has a row where two seeds or more of it were measured: one seed does not show the variance of training, if
    there is one.
    Corrected by Holm for the whole table: `p_value` and `p_equivalence`, from which the `verdict` follows, and
    `significant`, the number of seeds whose exact McNemar test stays below 5%.
    Raises ValueError, with one sentence, if no pair was measured so.
    """
    rows, p_values = [], []
    for dataset in datasets:
        here = examples[examples["dataset"].eq(dataset)]
        trained = here[["head", "regime", "seed"]].drop_duplicates().groupby(["head", "regime"], observed=True)["seed"]
        seeds = {name: set(found) for name, found in trained}
        for ours, rival in pairs:
            both = [seeds.get(one, set()) for one in (ours, rival)]
            random = [found for found, one in zip(both, (ours, rival), strict=True) if HEADS[one[0]].random(one[1])]
            if not all(both) or (random and len(set.intersection(*random)) < 2):
                continue
            labels, first, second = paired(here, dataset, ours, rival)
            found = compare(labels, first, second, **how)
            names = {"dataset": dataset, "source": source(dataset), "head": ours[0], "regime": ours[1]}
            numbers = ("difference", "low", "high", "p_value", "p_equivalence", "detectable")
            rows.append(names | {"rival": rival[0], "seeds": len(first)} | {n: getattr(found, n) for n in numbers})
            p_values.append(found.p_values)
    if not rows:
        raise ValueError(f"The results hold no pair of {pairs} with two seeds or more on {list(datasets)}.")
    corrected = iter(holm(np.concatenate(p_values)) < LEVEL)
    table = pd.DataFrame(rows)
    table = table.assign(**{name: holm(table[name]) for name in ("p_value", "p_equivalence")})
    table["verdict"] = list(map(judge, table["difference"], table["p_value"], table["p_equivalence"]))
    table["significant"] = [sum(next(corrected) for _ in seeds) for seeds in p_values]
    return table


def points(share: float) -> str:
    return f"{100 * share:+.1f}"


def by_source(table: pd.DataFrame) -> pd.Series:
    """One verdict for each source: that of more than half of its datasets, unless another says the opposite."""
    opposite = {"better": "worse", "worse": "better"}
    found = {}
    for name, verdicts in table.groupby("source", sort=False)["verdict"]:
        first = verdicts.mode()[0]
        agreed = verdicts.eq(first).mean() > 0.5 and not verdicts.eq(opposite.get(first)).any()
        found[name] = first if agreed else "inconclusive"
    return pd.Series(found)


def span(table: pd.DataFrame) -> str:
    """The range of the differences over the datasets, in points."""
    low, high = points(table["difference"].min()), points(table["difference"].max())
    return f"{low if low == high else f'{low} to {high}'} points"


def sentence(table: pd.DataFrame) -> str:
    """The number of sources with each verdict, in words: comparisons with one rival."""
    counts = by_source(table).value_counts()
    said = ", ".join(f"{verdict} on {counts[verdict]}" for verdict in VERDICTS if verdict in counts)
    return f"{said} of {counts.sum()} source{'s' if counts.sum() > 1 else ''} ({span(table)})"


def wins(table: pd.DataFrame) -> bool:
    """Better on at least half of the sources, and worse on none."""
    found = by_source(table)
    return found.eq("better").mean() >= 0.5 and not found.eq("worse").any()


def headline(examples: pd.DataFrame, regime: str, datasets=tuple(DATASETS)) -> pd.DataFrame:
    """All comparisons behind the verdict, of one encoder in one regime: one table, and so one correction.

    Any two heads of LADDER, the CNN with its other rivals, and each head of LADDER with TF-IDF.
    """
    pairs = [((head, regime), (rival, regime)) for i, head in enumerate(LADDER) for rival in LADDER[:i]]
    pairs += [(("cnn", regime), (rival, regime)) for rival in RIVALS if rival not in LADDER]
    pairs += [((head, regime), ("tfidf", "trained")) for head in LADDER]
    return compare_pairs(examples, datasets, pairs)


def between(table: pd.DataFrame, head: str, rival: str) -> pd.DataFrame:
    """The rows of a table that compare these two heads."""
    return table[table["head"].eq(head) & table["rival"].eq(rival)]


def pick(table: pd.DataFrame) -> str:
    """The head to use, by `headline`: LADDER is climbed, and a head is taken if it wins against the one before."""
    best = LADDER[0]
    for head in LADDER[1:]:
        if len(rows := between(table, head, best)) and wins(rows):
            best = head
    return best


def verdict(examples: pd.DataFrame, datasets=tuple(DATASETS)) -> str:
    """What a practitioner should do, in Markdown: three sentences of advice, and three answers, for each encoder."""
    tables = {}
    for encoder in encoders(examples):
        for regime in REGIMES:
            with suppress(ValueError):  # not measured in this regime
                tables[regime, encoder] = headline(of_encoder(examples, encoder), regime, datasets)
    if not tables:
        raise ValueError("The results hold no two heads with two seeds or more on one of these datasets.")
    picks = {key: pick(table) for key, table in tables.items()}
    lines = [advice(regime, tables, picks) for regime in REGIMES]
    windows = "**Is it the convolution?** Against `token_mlp`, which reads single tokens, the CNN is"
    words = f"**Try {HEADS['tfidf'].label} first.** Compared with it, the heads above are"
    lines += [against("tfidf", picks, tables, words), ""]
    lines += [against("token_mlp", dict.fromkeys(tables, "cnn"), tables, windows), real_bert(picks), missed(tables)]
    return "\n".join(line if not line else f"- {line}" for line in lines if line is not None)


def told(found: dict) -> str:
    """{(regime, encoder): comparisons with one rival} in words: on how many sources better, and on how many worse."""
    votes, said = {key: by_source(rows) for key, rows in found.items()}, []
    everywhere = pd.concat(votes.values()).unique()
    for key, own in votes.items():
        counts, where = own.value_counts(), f"of {len(own)} sources with {listed([key], found)}"
        worse = f"worse on {counts['worse']}" if "worse" in counts else ""
        if "better" in everywhere:
            said.append(f"on {counts.get('better', 'none')} {where}" + (f" ({worse})" if worse else ""))
        elif worse:
            said.append(f"{worse} {where}")
    words = f"better {'' if 'better' in everywhere else 'on none, '}{enumerated(said) or 'worse on none'}"
    if len(everywhere) == 1:
        word = "the same within the margin" if everywhere[0] == VERDICTS[2] else everywhere[0]
        words = f"{word} on every source with {listed(votes, found)}"
    return f"{words}; differences of {span(pd.concat(found.values()))}"


def enumerated(parts) -> str:
    """A, B and C."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def listed(keys, among) -> str:
    """Some of the pairs of a regime and an encoder, in words; the regime is left out where all have the same."""
    alike = len({regime for regime, _ in among}) == 1
    regimes = {encoder: " and ".join(regime for regime, other in keys if other == encoder) for _, encoder in keys}
    return enumerated([f"`{encoder}`" if alike else f"{said} `{encoder}`" for encoder, said in regimes.items()])


def advice(regime: str, tables: dict, picks: dict) -> str | None:
    """What to put on the encoder in one regime."""
    keys = [key for key in tables if key[0] == regime]
    better = {key: rows for key in keys if len(rows := between(tables[key], picks[key], LADDER[0]))}
    said = [f"Against {HEADS[LADDER[0]].label} this larger head is {told(better)}."] if better else []
    if plain := [f"`{encoder}`" for _, encoder in keys if (regime, encoder) not in better]:
        said.append(f"With {' or '.join(plain)}, no larger head is shown to be better on half of the sources and worse")
        said.append("on none; this does not show that the heads are equal.")
    heads = {picks[key]: listed([other for other in keys if picks[other] == picks[key]], keys) for key in keys}
    places = [f"{regime} {where}" if len(heads) > 1 else f"a {regime} encoder" for where in heads.values()]
    opening = "; on ".join(f"{place}, use {HEADS[head].label}" for head, place in zip(heads, places, strict=True))
    return f"**On {opening}.** {' '.join(said)}" if keys else None


def against(rival: str, heads: dict, tables: dict, opening: str) -> str | None:
    """A sentence: each table's head compared with one rival."""
    found = {key: rows for key in tables if len(rows := between(tables[key], heads[key], rival))}
    return f"{opening} {told(found)}." if found else None


def real_bert(picks: dict) -> str:
    """Does it hold for an encoder that people use?"""
    others = [key for key in picks if key[1] != "embedded" and (key[0], "embedded") in picks]
    said = []
    for word, same in (("Yes, use the same head", True), ("No, use another head", False)):
        if keys := [key for key in others if (picks[key] == picks[key[0], "embedded"]) == same]:
            said.append(f"{word} with {listed(keys, others)}.")
    return f"**Does it hold for a BERT that people use?** {' '.join(said) or 'Not measured yet.'}"


def missed(tables: dict) -> str | None:
    """How large a difference between the CNN and its closest rival could have been missed?"""
    found = [rows["detectable"] for table in tables.values() if len(rows := between(table, "cnn", "token_mlp"))]
    sizes = " to ".join(dict.fromkeys(f"{100 * end(map(end, found)):.1f}" for end in (min, max) if found))
    one = f"one of {sizes} points between the CNN and `token_mlp`, depending on the data, is missed once in five times"
    return f"**How large a difference could have been missed?** Before Holm's correction, {one}." if found else None
