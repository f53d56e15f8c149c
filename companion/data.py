"""A dataset's splits -> texts and labels -> token ids -> batches of about equal length.

`companion.files` finds the splits, `companion.labels` says what their labels mean.
The environment variable COMPANION_DATASET changes the default.
"""

import os

import datasets
import numpy as np

from companion.files import is_text, read_splits
from companion.labels import names_of, problem_type, unify

DEFAULT_DATASET = os.environ.get("COMPANION_DATASET", "matinee")


def load_dataset(name: str = DEFAULT_DATASET, text: str = "text", label: str = "label") -> datasets.DatasetDict:
    """Splits with at least the columns `text` (str) and `label`; unlabelled splits are left out.

    text, label: what the dataset calls these columns. The type of `label` says what is to be learned:
    `ClassLabel` one class per text, `List(ClassLabel)` several at once, a float32 `Value` a number.
    Raises ValueError, with one sentence, for an unknown name, a missing column, an empty split, a text that is not
    one, and labels that training does not know.
    """
    if text == label:
        raise ValueError(f"The texts and the labels cannot both be the column '{text}'.")
    splits = read_splits(name)
    for split, rows in splits.items():
        if missing := sorted({label, text} - set(rows.column_names)):
            columns = ", ".join(rows.column_names[:12])
            raise ValueError(
                f"The split '{split}' of '{name}' has no column {', '.join(missing)}; it has {columns or 'none'}. "
                "The options text= and label= (--text, --label) say which columns to read."
            )
        if len(rows) == 0:
            raise ValueError(f"The split '{split}' of '{name}' is empty.")
        rows = rows.remove_columns(sorted({"text", "label"} & set(rows.column_names) - {text, label}))
        splits[split] = rows.rename_columns({old: new for old, new in ((text, "text"), (label, "label")) if old != new})
        check_texts(splits[split]["text"])
    return datasets.DatasetDict(unify(splits, name))


def check_texts(texts) -> None:
    """Raises ValueError, naming the first, if one of the texts is not a string of characters, or if there is none."""
    if isinstance(texts, str):
        raise ValueError("Texts stand in a list: give [text] for a single one.")
    if len(texts) == 0:
        raise ValueError("There is no text: give at least one.")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"Text {position} is not a string but {type(text).__name__}: {text!r:.80}.")
        if not is_text(text):
            raise ValueError(f"Text {position} has half a character in it, a lone surrogate: {text!r}.")


def encode(rows: datasets.Dataset, tokenizer, max_length: int = 256) -> datasets.Dataset:
    """Token ids for a split: the columns `input_ids`, `attention_mask`, `label` and `length` (tokens), unpadded.

    Where a text has several labels at once, its `label` is a 0 or 1 for every class, as float32.
    """
    encoded = tokenizer(list(rows["text"]), truncation=True, max_length=min(max_length, tokenizer.model_max_length))
    lengths = [len(ids) for ids in encoded["input_ids"]]
    columns = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
    labels, names = list(rows["label"]), names_of(rows.features["label"])
    if problem_type(rows.features["label"]) == "multi_label_classification":
        labels = [[float(number in chosen) for number in range(len(names))] for chosen in labels]
    return datasets.Dataset.from_dict({**columns, "label": labels, "length": lengths})


def batches(encoded: datasets.Dataset, tokenizer, batch_size: int = 32, seed: int | None = None):
    """(inputs, labels) of texts of about equal length, padded to the longest of each batch, as NumPy arrays.

    With a seed the order is shuffled: texts are drawn at random, sorted by length only within some
    50 batches, and the batches shuffled again. Without one it is the dataset's own.
    """
    rows = encoded.with_format(None)[:]
    for indices in batch_indices(rows["length"], batch_size, seed):
        columns = {name: [rows[name][i] for i in indices] for name in ("input_ids", "attention_mask")}
        inputs = tokenizer.pad(columns, return_tensors="np")
        labels = np.array([rows["label"][i] for i in indices])
        labels = labels.astype(np.float32) if labels.dtype.kind == "f" else labels
        yield {name: inputs[name].astype(np.int32) for name in columns}, labels


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
