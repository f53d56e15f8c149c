"""Reads what the study wrote: tables of trainings and of predictions. Needs no PyTorch.

A classifier is (head, regime), as in the results: ("cnn", "frozen"), ("tfidf", "trained").
"""

from pathlib import Path

import numpy as np
import pandas as pd

from companion.study.specs import HEADS

CELL = ["dataset", "head", "regime", "seed", "encoder"]
NAMES = ["dataset", "head", "regime", "encoder", "recipe"]  # few values, many rows: kept once
COLUMNS = [*CELL, "split", "accuracy", "macro_f1", "loss", "seconds", "parameters", "recipe", "versions", "hardware"]
EXAMPLES = [*CELL, "recipe", "example", "length", "label", "prediction"]


def find_results() -> Path:
    """The folder of the results that come with the series: beside the notebooks, or in the installed package."""
    package = Path(__file__).parents[1]
    folders = (package.parent / "notebooks" / "results", package / "assets" / "results")
    return next(folder for folder in folders if (folder / "heads.csv").exists())


def read_table(path: Path) -> pd.DataFrame:
    """heads.csv; names stay names, for example a dataset "2024" or "NA"."""
    rows = pd.read_csv(path, dtype=dict.fromkeys(NAMES, str), keep_default_na=False)
    return rows[COLUMNS] if set(COLUMNS) <= set(rows) else rows


def read_predictions(path: Path) -> pd.DataFrame:
    """predictions.parquet: a row for each test example of each training."""
    return pd.read_parquet(path, read_dictionary=NAMES)[EXAMPLES]


def read_results(folder: Path | None = None, encoder: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(a row for each training, a row for each prediction), of the series' own results or those in a folder.

    With the name of an encoder, as `encoders` lists them: only what was measured with it.
    """
    folder = folder or find_results()
    tables = read_table(folder / "heads.csv"), read_predictions(folder / "predictions.parquet")
    return tuple(of_encoder(rows, encoder) for rows in tables) if encoder else tables


def encoders(rows: pd.DataFrame) -> list[str]:
    """The names of the encoders in a table, without their checksums, in order of appearance."""
    return list(dict.fromkeys(name.rsplit(" ", 1)[0] for name in rows["encoder"].unique()))


def of_encoder(rows: pd.DataFrame, encoder: str) -> pd.DataFrame:
    """The rows of one encoder, by its name. Raises ValueError, with one sentence, if there is none."""
    wanted = [name for name in rows["encoder"].unique() if name.rsplit(" ", 1)[0] == encoder]
    if not wanted:
        raise ValueError(f"The results hold nothing of the encoder '{encoder}', but of {encoders(rows)}.")
    return rows[rows["encoder"].isin(wanted)]


def read_log_odds(folder: Path | None = None, encoder: str = "embedded") -> pd.DataFrame:
    """What two-class classifiers said, by dataset, head, regime and seed: log p(1)/p(0), an array for each split."""
    rows = of_encoder(pd.read_parquet((folder or find_results()) / "log_odds.parquet"), encoder)
    return rows.set_index(["dataset", "head", "regime", "seed"]).sort_index()


def paired(examples: pd.DataFrame, dataset: str, *classifiers: tuple[str, str], seeds: int | None = None):
    """(labels (N,), predictions (S, N) of each classifier), all for the same seeds and the same examples.

    S is `seeds`, or as many as all of them share; one that depends on no seed has a single one, which is repeated.
    Raises ValueError, with one sentence, if the results lack a classifier, hold fewer seeds or several encoders, or if
    the classifiers were not trained by one protocol, or the seeds of one not by one recipe.
    """
    rows = examples[examples["dataset"].eq(dataset)]
    if (count := rows["encoder"].nunique()) > 1:
        raise ValueError(f"These are results of {count} encoders; choose one of them first.")
    found, protocols = [], set()
    for head, regime in classifiers:
        chosen = rows[rows["head"].eq(head) & rows["regime"].eq(regime)]
        if chosen.empty:
            raise ValueError(f"The results hold nothing of {head}, {regime}, on {dataset}.")
        recipes = set(chosen["recipe"].unique())
        protocols |= {recipe.split("-")[0] for recipe in recipes}
        if len(recipes) > 1 or len(protocols) > 1:
            raise ValueError(f"{head}, {regime}, on {dataset} was trained by another recipe than what it is beside.")
        found.append(chosen.pivot(index="seed", columns="example", values="prediction"))  # (S, N)
        labels = chosen.drop_duplicates("example").sort_values("example")["label"].to_numpy()
    alone = [len(rows) == 1 and not HEADS[head].random(r) for (head, r), rows in zip(classifiers, found, strict=True)]
    several = [set(rows.index) for rows, one in zip(found, alone, strict=True) if not one]
    shared = sorted(set.intersection(*several)) if several else [0]
    if (seeds or 1) > len(shared):
        raise ValueError(f"The results hold {len(shared)} seeds on {dataset}, not {seeds or 1}.")
    shared = shared[:seeds]
    return labels, *(
        np.repeat(rows.to_numpy(), len(shared), axis=0) if one else rows.loc[shared].to_numpy()
        for rows, one in zip(found, alone, strict=True)
    )


def length_parts(examples: pd.DataFrame, dataset: str) -> list[tuple[float, np.ndarray]]:
    """[(median length in tokens, places in the test set)] of up to four parts of a dataset, from short to long.

    Texts of one length stay in one part: a test file may be sorted by label, and a cut between equal lengths would
    then be a cut by label.
    """
    rows = examples[examples["dataset"].eq(dataset)].drop_duplicates("example").sort_values("example")
    lengths = rows["length"].to_numpy()
    quarters = pd.qcut(lengths, 4, labels=False, duplicates="drop")
    parts = [np.flatnonzero(quarters == quarter) for quarter in np.unique(quarters)]
    return [(float(np.median(lengths[part])), part) for part in parts]
