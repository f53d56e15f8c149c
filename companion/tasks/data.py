"""A task and a dataset's name -> the columns that the task reads; rows -> a padded batch."""

from itertools import compress
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict

from companion.data import load_dataset, read_splits

ASSETS, PACKAGED = Path(__file__).parent.parent / "assets", ("listings", "articles")


def load(task: str, name: str) -> DatasetDict:
    """Splits with the columns `text`, `label`, or `tokens`, `tags`, or `sentences`, `key`, `references`, by the task.

    task: "documents", "tagging" or "summaries". name: "listings", "articles", a folder or a Hub id. A document of GUM
    has its genre as label, and its sentences of prominence 1 as key. Without summaries, the key is the reference.
    Raises ValueError, with one sentence, for a dataset that lacks the columns.
    """
    splits, made = read_splits(str(ASSETS / name) if name in PACKAGED else name), DatasetDict()
    for split, rows in splits.items():
        if task == "documents" and "text" in rows.column_names:
            return load_dataset(name)
        tags = getattr(getattr(rows.features.get("ner_tags"), "feature", None), "names", None)  # of numbers, on the Hub
        try:
            made[split] = Dataset.from_list([read_row(task, row, tags) for row in rows])
        except KeyError as error:
            raise ValueError(f"For {task} the split '{split}' of '{name}' needs the column {error}.") from None
    return made


def read_row(task: str, row: dict, tags=None) -> dict:
    if task == "tagging":
        return {"tokens": row["tokens"], "tags": [tags[i] for i in row["ner_tags"]] if tags else row["ner_tags"]}
    if task == "documents":
        return {"text": " ".join(row["sentences"]), "label": row["genre"]}
    if "source" in row:  # SciTLDR
        return {"sentences": row["source"], "key": row["source_labels"], "references": row["target"]}
    key = [int(rank == 1) for rank in row["prominence"]] if "prominence" in row else row["key"]
    references = row.get("summaries") or [" ".join(compress(row["sentences"], key))]
    return {"sentences": row["sentences"], "key": key, "references": references}


def collate(rows) -> dict[str, np.ndarray]:
    """Return a model's inputs and labels from rows of arrays, padded on the right to the largest."""
    batch, padding = {}, {"input_ids": 0, "attention_mask": 0, "window_mask": 0, "hidden": 0, "labels": -100}
    for name in [name for name in padding if name in rows[0]]:
        arrays = [np.asarray(row[name]) for row in rows]
        shape = [max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
        batch[name] = np.full((len(rows), *shape), padding[name], arrays[0].dtype)
        for i, array in enumerate(arrays):
            batch[name][(i, *map(slice, array.shape))] = array
    return batch
