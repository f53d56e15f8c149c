"""Compares heads on documents, tagging and summaries, from the stored results of `python -m tools.tasks`."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from companion.study.results import find_results
from companion.study.statistics import estimate, holm, judge, span_f1

SCORES = {  # what each test example contributes to the score: (S, N, …) -> (S, N)
    "documents": lambda found: (found[..., 0] == found[..., 1]).astype(float),  # accuracy
    "tagging": span_f1,
    "summaries": lambda found: found[..., 1],  # ROUGE-1
}


def by_seed(cells: pd.DataFrame, folds: int) -> dict[int, np.ndarray]:
    """{seed: what each test example contributes to the score}, for seeds with all folds joined."""
    seeds = cells.groupby("seed")["examples"]
    return {seed: np.array(list(chain(*map(json.loads, texts)))) for seed, texts in seeds if len(texts) == folds}


def compare_heads(task: str, pairs: list[tuple[str, str]], folder: Path | None = None) -> pd.DataFrame:
    """Return a row for each dataset, encoder, regime and pair of heads: `difference`, `low`, `high` and `verdict`.

    Compared over the seeds that both heads have; the verdicts are corrected for the number of rows (Holm 1979). A head
    that needs no training, for example "tfidf" or "lead", has one result, which stands for every seed. Raises
    ValueError, with one sentence, where heads that belong together have several settings or different test examples.
    """
    file = (folder or find_results() / "tasks") / f"{task}.csv"
    stored = pd.read_csv(file, dtype={"dataset": str}, keep_default_na=False).sort_values(["seed", "fold"])
    stored, rows, found = stored.assign(settings=stored["settings"].map(json.loads)), [], []
    for key, group in stored[stored["regime"].ne("untrained")].groupby(["dataset", "encoder", "regime"], sort=False):
        settings = group["settings"].iloc[0]
        shared = {name: settings[name] for name in ("texts", "folds", "k") if name in settings}  # an untrained head's
        if any(own != settings for own in group["settings"]):
            raise ValueError(f"{file} has results of {', '.join(key)} by several settings; compare them one by one.")
        alike = stored["dataset"].eq(key[0]) & stored["settings"].map(shared.__eq__)
        group = pd.concat([group, stored[stored["regime"].eq("untrained") & alike]])
        own = {head: by_seed(cells, settings.get("folds", 1)) for head, cells in group.groupby("head")}
        untrained = set(group.loc[group["regime"].eq("untrained"), "head"])
        for pair in pairs:
            trained = [set(own.get(head, {})) for head in pair if head not in untrained] or [{0}]
            seeds = sorted(trained[0].intersection(*trained))
            if seeds and all(map(own.get, pair)):
                if len({len(examples) for head in pair for examples in own[head].values()}) > 1:
                    raise ValueError(f"{file} has results of {' and '.join(pair)} on different examples of {key[0]}.")
                values = [np.stack([own[head][0 if head in untrained else seed] for seed in seeds]) for head in pair]
                found.append(estimate(np.subtract(*map(SCORES[task], values))))
                place = (key[0], key[1].rsplit(" ", 1)[0], key[2])
                rows.append([*place, *pair, len(seeds), found[-1].mean, *found[-1].interval()])
    table = pd.DataFrame(rows, columns="dataset encoder regime head rival seeds difference low high".split())
    p_values, equivalent = (holm([getattr(one, name)() for one in found]) for name in ("p_value", "p_equivalence"))
    return table.assign(verdict=list(map(judge, table["difference"], p_values, equivalent)))
