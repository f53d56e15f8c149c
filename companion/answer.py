"""The answer: does the CNN help? Computed from the results of `companion.experiment`, never typed.

A classifier is (head, regime), as in the results: ("cnn", "frozen"), ("tfidf", "trained").
"""

from pathlib import Path

import numpy as np
import pandas as pd

from companion.evaluation import accuracy, compare, draws, holm, interval

DATASETS = {  # as the results name them: as the series does
    "cornell-movie-review-data/rotten_tomatoes": "rotten_tomatoes",
    "SetFit/sst2": "sst2",
    "SetFit/sst5": "sst5",
    "CogComp/trec": "trec",
    "stanfordnlp/imdb@5000": "imdb",
}
REGIMES = ("frozen", "fine-tuned")
RIVALS = {  # what the CNN has to beat, in either regime
    "mean": "the mean of the vectors",
    "max": "their maximum",
    "cls": "the vector of [CLS]",
    "mlp": "a dense layer on the mean, as large as the CNN",
}
NO_BERT = {  # and what does without BERT's layers
    "static_cnn": "the same CNN over the word embeddings alone",
    "tfidf": "counts of words (TF-IDF)",
}
VERDICTS = ("helps", "hurts", "no difference that matters", "cannot tell")


def find_results() -> Path:
    """The folder of the results that come with the series: beside the notebooks, or in the installed package."""
    package = Path(__file__).parent
    folders = (package.parent / "notebooks" / "results", package / "assets" / "results")
    return next(folder for folder in folders if (folder / "heads.csv").exists())


def read_table(path: Path) -> pd.DataFrame:
    """heads.csv; names stay names, a dataset "2024" or "NA" too."""
    names = dict.fromkeys(["dataset", "head", "regime", "encoder"], str)
    return pd.read_csv(path, dtype=names, keep_default_na=False)


def read_results(folder: Path | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(a row for each training, a row for each prediction), of the series' own results or those in a folder."""
    folder = folder or find_results()
    names = ["dataset", "head", "regime", "encoder"]  # few names, many rows: kept once
    return read_table(folder / "heads.csv"), pd.read_parquet(folder / "predictions.parquet", read_dictionary=names)


def read_log_odds(folder: Path | None = None) -> pd.DataFrame:
    """What two-class classifiers said, by dataset, head, regime and seed: log p(1)/p(0), an array for each split."""
    rows = pd.read_parquet((folder or find_results()) / "log_odds.parquet")
    return rows.set_index(["dataset", "head", "regime", "seed"]).sort_index()


def paired(examples: pd.DataFrame, dataset: str, *classifiers: tuple[str, str], seeds: int | None = None):
    """(labels (N,), predictions (S, N) of each classifier), all for the same seeds and the same examples.

    S is `seeds`, or as many as all of them share; TF-IDF, in which there is no chance, has one, which stands for each.
    Raises ValueError, with one sentence, if the results lack a classifier, hold fewer seeds or several encoders.
    """
    if (encoders := examples["encoder"].nunique()) > 1:
        raise ValueError(f"These are results of {encoders} encoders; choose one of them first.")
    found = []
    for head, regime in classifiers:
        chosen = examples["dataset"].eq(dataset) & examples["head"].eq(head) & examples["regime"].eq(regime)
        if not chosen.any():
            raise ValueError(f"The results hold nothing of {head}, {regime}, on {dataset}.")
        rows = examples[chosen]
        found.append(rows.pivot(index="seed", columns="example", values="prediction"))  # (S, N)
        labels = rows.drop_duplicates("example").sort_values("example")["label"].to_numpy()
    alone = [head == "tfidf" and len(rows) == 1 for (head, _), rows in zip(classifiers, found, strict=True)]
    several = [set(rows.index) for rows, one in zip(found, alone, strict=True) if not one]
    shared = sorted(set.intersection(*several)) if several else [0]
    if (seeds or 1) > len(shared):
        raise ValueError(f"The results hold {len(shared)} seeds on {dataset}, not {seeds or 1}.")
    shared = shared[:seeds]
    return labels, *(
        np.repeat(rows.to_numpy(), len(shared), axis=0) if one else rows.loc[shared].to_numpy()
        for rows, one in zip(found, alone, strict=True)
    )


def scores(examples: pd.DataFrame, dataset: str, metric=accuracy) -> pd.DataFrame:
    """Each classifier on a dataset: `score` (the mean over its seeds), `low`, `high` (95% interval), `seeds`."""
    rows = {}
    classifiers = examples.loc[examples["dataset"].eq(dataset), ["head", "regime"]].drop_duplicates()
    for classifier in classifiers.itertuples(index=False, name=None):
        labels, predictions = paired(examples, dataset, classifier)
        low, high = interval(draws(labels, predictions, metric=metric)[0])
        score = metric(labels, predictions, np.ones((1, len(labels)))).mean()
        rows[classifier] = {"score": score, "low": low, "high": high, "seeds": len(predictions)}
    return pd.DataFrame(rows).T.rename_axis(["head", "regime"]).sort_index()


def comparisons(examples: pd.DataFrame, datasets, ours: tuple[str, str], rivals, **how) -> pd.DataFrame:
    """`compare` one classifier with others on each of the datasets, a row for each: `how` goes to `compare`.

    A pair has a row where two seeds or more of it were measured: one seed knows nothing of the chance in training.
    Corrected by Holm for the whole table: `p_value`, of the difference over all seeds, and `significant`, the number of
    seeds whose exact McNemar test stays below 5%.
    Raises ValueError if no pair was measured so.
    """
    trained = examples[["dataset", "head", "regime", "seed"]].drop_duplicates()
    seeds = {name: set(rows) for name, rows in trained.groupby(["dataset", "head", "regime"], observed=True)["seed"]}
    rows, p_values = [], []
    for dataset in datasets:
        for rival in rivals:
            both = [seeds.get((dataset, *one), set()) for one in (ours, rival)]
            shared = both[0] if both[1] and rival[0] == "tfidf" else both[0] & both[1]
            if len(shared) < 2:
                continue
            labels, first, second = paired(examples, dataset, ours, rival)
            found = compare(labels, first, second, **how)
            names = {"dataset": dataset, "regime": ours[1], "rival": rival[0], "seeds": len(first)}
            numbers = ("difference", "low", "high", "p_value", "detectable", "verdict")
            rows.append(names | {name: getattr(found, name) for name in numbers})
            p_values.append(found.p_values)
    if not rows:
        raise ValueError(f"The results hold no pair of {', '.join(ours)} and one of its rivals on {list(datasets)}.")
    corrected = iter(holm(np.concatenate(p_values)) < 0.05)
    table = pd.DataFrame(rows)
    table["p_value"] = holm(table["p_value"])
    table["significant"] = [sum(next(corrected) for _ in seeds) for seeds in p_values]
    return table


def length_parts(examples: pd.DataFrame, dataset: str) -> list[tuple[float, np.ndarray]]:
    """[(median length in tokens, places in the test set)] of up to four parts of a dataset, from short to long.

    Texts of one length stay in one part: a test file may be sorted by label, and what cuts between equals cuts by it.
    """
    rows = examples[examples["dataset"].eq(dataset)].drop_duplicates("example").sort_values("example")
    lengths = rows["length"].to_numpy()
    quarters = pd.qcut(lengths, 4, labels=False, duplicates="drop")
    parts = [np.flatnonzero(quarters == quarter) for quarter in np.unique(quarters)]
    return [(float(np.median(lengths[part])), part) for part in parts]


def points(share: float) -> str:
    return f"{100 * share:+.1f}"


def sentence(table: pd.DataFrame) -> str:
    """What comparisons with one rival say, in words: how often which verdict, and from where to where."""
    counts = table["verdict"].value_counts()
    said = [f"{verdict} on {counts[verdict]}" for verdict in VERDICTS if verdict in counts]
    low, high = table["difference"].min(), table["difference"].max()
    return f"{', '.join(said)} of {len(table)} datasets ({points(low)} to {points(high)} points)"


def verdict(tables: dict[str, pd.DataFrame], rivals=(*RIVALS, *NO_BERT)) -> str:
    """The answer for each regime's comparisons and each rival that was measured, in Markdown.

    Advice is given on heads for the same vectors. Against what does without BERT's layers, it is BERT that is judged.
    """
    lines = []
    for regime, table in tables.items():
        lines += [f"**With a {regime} encoder**", ""]
        for rival in rivals:
            found = table[table["rival"] == rival]
            if len(found):
                advised = f"; {advice(found)}" if rival in RIVALS else ""
                lines.append(f"- against {(RIVALS | NO_BERT)[rival]}: {sentence(found)}{advised}.")
        lines.append("")
    return "\n".join(lines).strip()


def advice(table: pd.DataFrame) -> str:
    """What to do where the comparisons with one rival came out so; those that ring count where Holm agrees."""
    rings = table["verdict"].where(table["p_value"] < 0.05)
    helps, hurts = (rings.eq(verdict).sum() for verdict in ("helps", "hurts"))
    none = table["verdict"].eq("no difference that matters").sum()
    if helps >= len(table) / 2 and not hurts:
        return "add the CNN"
    if helps:
        return "try both on your own validation data"
    if hurts or none == len(table):
        return "leave the CNN out"
    return "no gain found, though a small one is not ruled out"
