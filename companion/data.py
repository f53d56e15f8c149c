"""A dataset's name -> its texts and labels -> token ids -> batches of about equal length.

A name is "matinee" (plain film verdicts) or "matinee-hard" (reviews that are hard to read), both in this package, a
local folder of Parquet, JSON-lines or CSV files, or a Hub id.
The environment variable COMPANION_DATASET changes the default.
"""

import os
from pathlib import Path

import datasets
import numpy as np

DEFAULT_DATASET = os.environ.get("COMPANION_DATASET", "matinee")
ASSETS = Path(__file__).parent / "assets"
PACKAGED = ("matinee", "matinee-hard")
ORDER = "train validation test"
BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".csv": "csv"}


def read_splits(name: str) -> datasets.DatasetDict:
    """The splits as they are stored. Raises ValueError, with one sentence, if there is no such dataset."""
    folder = ASSETS / name if name in PACKAGED else Path(name)
    if not folder.is_dir():
        try:
            return datasets.load_dataset(name)
        except Exception as error:  # the Hub's client has a dozen ways to say no
            raise ValueError(
                f"There is no dataset '{name}': it is not 'matinee' or 'matinee-hard', no folder of that name is here, "
                f"and the Hugging Face Hub did not give it ({type(error).__name__})."
            ) from None
    files = sorted(path for path in folder.rglob("*") if path.suffix in BUILDERS)
    if not files:
        raise ValueError(f"The folder '{name}' holds no .parquet, .jsonl or .csv file.")
    splits = {}
    for path in files:  # train.jsonl, train-00000-of-00001.parquet: the split's name comes first
        splits.setdefault(path.stem.split("-")[0], []).append(str(path))
    ordered = {split: splits[split] for split in sorted(splits, key=ORDER.find)}
    try:
        return datasets.load_dataset(BUILDERS[files[0].suffix], data_files=ordered)
    except Exception as error:
        raise ValueError(f"A file in '{name}' is empty or cannot be read ({type(error).__name__}).") from None


def load_dataset(name: str = DEFAULT_DATASET) -> datasets.DatasetDict:
    """Splits with at least the columns `text` (str) and `label` (`ClassLabel`); unlabelled splits are left out.

    Raises ValueError, with one sentence, for an unknown name, a missing column, an empty split, a text that is not one.
    """
    splits = read_splits(name)
    names = set()
    for split, rows in list(splits.items()):
        if missing := {"text", "label"} - set(rows.column_names):
            raise ValueError(f"The split '{split}' of '{name}' has no column {', '.join(sorted(missing))}.")
        if len(rows) == 0:
            raise ValueError(f"The split '{split}' of '{name}' is empty.")
        check_texts(rows["text"])
        if not isinstance(rows.features["label"], (datasets.ClassLabel, datasets.Value)):
            raise ValueError(f"A label in the split '{split}' of '{name}' is not one value: {rows['label'][0]!r}.")
        labels = set(rows.unique("label"))
        if None in labels:
            raise ValueError(f"The split '{split}' of '{name}' has rows without a label.")
        if labels == {-1}:
            del splits[split]
            continue
        if -1 in labels:
            raise ValueError(f"The split '{split}' of '{name}' has rows without a label (-1).")
        names |= labels
    if not splits:
        raise ValueError(f"'{name}' has no split with labels.")
    if not isinstance(rows.features["label"], datasets.ClassLabel):
        classes = sorted(names)
        feature = datasets.ClassLabel(names=[str(label) for label in classes])
        index = {label: i for i, label in enumerate(classes)}
        for split, rows in splits.items():
            numbers = [index[label] for label in rows["label"]]
            splits[split] = rows.remove_columns("label").add_column("label", numbers, feature=feature)
    return splits


def check_texts(texts) -> None:
    """Raises ValueError, naming the first, if one of the texts is not a string, or if there is none."""
    if len(texts) == 0:
        raise ValueError("There is no text: give at least one.")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"Text {position} is not a string but {type(text).__name__}: {text!r}.")


def encode(rows: datasets.Dataset, tokenizer, max_length: int = 256) -> datasets.Dataset:
    """Token ids for a split: the columns `input_ids`, `attention_mask`, `label` and `length` (tokens), unpadded."""
    encoded = tokenizer(list(rows["text"]), truncation=True, max_length=min(max_length, tokenizer.model_max_length))
    lengths = [len(ids) for ids in encoded["input_ids"]]
    columns = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
    return datasets.Dataset.from_dict({**columns, "label": rows["label"], "length": lengths})


def batches(encoded: datasets.Dataset, tokenizer, batch_size: int = 32, seed: int | None = None):
    """(inputs, labels) of texts of about equal length, padded to the longest of each batch, as NumPy arrays.

    With a seed the order is shuffled: texts are drawn at random, sorted by length only within some
    50 batches, and the batches shuffled again. Without one it is the dataset's own.
    """
    rows = encoded.with_format(None)[:]
    for indices in batch_indices(rows["length"], batch_size, seed):
        columns = {name: [rows[name][i] for i in indices] for name in ("input_ids", "attention_mask")}
        inputs = tokenizer.pad(columns, return_tensors="np")
        yield {name: inputs[name].astype(np.int32) for name in columns}, np.array([rows["label"][i] for i in indices])


def batch_indices(lengths, batch_size: int, seed: int | None) -> list[np.ndarray]:
    """The rows of each batch; see `batches`."""
    order = np.arange(len(lengths))
    if seed is None:
        return np.array_split(order, range(batch_size, len(order), batch_size))
    rng = np.random.default_rng(seed)
    rng.shuffle(order)
    pools = np.array_split(order, range(50 * batch_size, len(order), 50 * batch_size))
    ordered = np.concatenate([pool[np.argsort(np.asarray(lengths)[pool], kind="stable")] for pool in pools])
    shuffled = np.array_split(ordered, range(batch_size, len(ordered), batch_size))
    rng.shuffle(shuffled)
    return shuffled


def keras_batches(encoded: datasets.Dataset, tokenizer, batch_size: int = 32, seed: int | None = None):
    """The same batches as a `keras.utils.PyDataset`, for `fit`; each epoch has an order of its own."""
    from companion.quiet import keras

    class Batches(keras.utils.PyDataset):
        epoch, drawn = -1, list(batches(encoded, tokenizer, batch_size, seed))

        def __len__(self):
            return -(-len(encoded) // batch_size)

        def on_epoch_begin(self):
            self.epoch += 1
            self.drawn = list(batches(encoded, tokenizer, batch_size, None if seed is None else seed + self.epoch))

        def __getitem__(self, index):
            inputs, labels = self.drawn[index]
            first = self.drawn[0][0]["input_ids"]
            # Keras takes a length on which the first two batches agree for that of all
            if self.epoch < 0 and index == 1 and first.shape[1] == inputs["input_ids"].shape[1]:
                inputs = {name: np.pad(ids, ((0, 0), (0, 1))) for name, ids in inputs.items()}
            return inputs, labels

    return Batches()
