"""A corpus of names or summaries -> its splits; rows -> a padded batch."""

from pathlib import Path

import numpy as np
from datasets import DatasetDict

from companion.data import read_splits

PACKAGED = {name: str(Path(__file__).parent.parent / "assets" / name) for name in ("listings", "articles")}
PADDING = {"input_ids": 0, "attention_mask": 0, "window_mask": 0, "hidden": 0, "labels": -100}


def load(name: str) -> DatasetDict:
    """Return the splits of "listings" (`tokens`, `ner_tags`), "articles" (`sentences`, `key`), a folder or a Hub id."""
    return read_splits(PACKAGED.get(name, name))


def collate(rows) -> dict[str, np.ndarray]:
    """Return a model's inputs and labels from rows of arrays, padded on the right to the largest of the batch."""
    batch: dict = {}
    for name in PADDING.keys() & set().union(*rows):
        arrays = [np.asarray(row[name]) for row in rows]
        shape = np.max([array.shape for array in arrays], axis=0).astype(int)
        batch[name] = np.full((len(rows), *shape), PADDING[name], np.result_type(*arrays))
        for i, array in enumerate(arrays):
            batch[name][(i, *map(slice, array.shape))] = array
    return batch
