"""The comparison's data: train, validation and test of any dataset, or of so many of its examples."""

import re
from pathlib import Path

import numpy as np
from datasets import ClassLabel, DatasetDict
from sklearn.model_selection import train_test_split

from companion.data import DEFAULT_DATASET, load_dataset

SIZED = r"(.*?)(?:@([1-9]\d*))?"  # NAME, or NAME@500
LIMITS = {"validation": 1000, "test": 5000}  # examples at most


def stratified_sample(rows, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`size` rows, each class with its share, and the others: two arrays of indices, in order.

    Raises ValueError, with one sentence, where some class is too small for that.
    """
    if size >= len(rows):
        return np.arange(len(rows)), np.array([], int)
    everything = np.arange(len(rows))
    try:
        drawn, others = train_test_split(everything, train_size=size, random_state=seed, stratify=rows["label"])
    except ValueError as error:
        raise ValueError(f"{size} of {len(rows)} examples cannot have every class with its share: {error}") from None
    return np.sort(drawn), np.sort(others)


def prepare(name: str) -> DatasetDict:
    """train, validation and test of a dataset. "NAME@500" trains on 500 examples, each class with its share.

    Without a validation split a tenth of train becomes it. At most 1,000 examples of validation are used, and 5,000
    of test.
    Raises ValueError, with one sentence, for one class only, and for labels that training never shows.
    """
    name, size = re.fullmatch(SIZED, name).groups()
    splits = load_dataset(name)
    if not {"train", "test"} <= set(splits):
        raise ValueError(f"'{name}' needs the splits train and test; it has {list(splits)}.")

    if not isinstance(splits["train"].features["label"], ClassLabel):
        raise ValueError(f"The comparison needs one class per text; the labels of '{name}' are lists or numbers.")
    if "validation" not in splits:
        validation, train = stratified_sample(splits["train"], len(splits["train"]) // 10)
        splits["train"], splits["validation"] = (splits["train"].select(part) for part in (train, validation))
    if size and int(size) >= len(splits["train"]):
        raise ValueError(f"'{name}' has {len(splits['train'])} training examples, not more than {size}.")
    for split, most in {**LIMITS, "train": int(size or len(splits["train"]))}.items():
        if len(splits[split]) > most:  # scikit-learn wants an example of each class among the others, too
            most = min(most, len(splits[split]) - splits[split].features["label"].num_classes)
        splits[split] = splits[split].select(stratified_sample(splits[split], most)[0])
    seen = set(splits["train"]["label"])
    if len(seen) < 2:
        raise ValueError(f"'{name}' shows one class only in training; a classifier needs two.")
    if unseen := {label for split in LIMITS for label in splits[split]["label"]} - seen:
        raise ValueError(f"'{name}' tests for labels that training never shows: {sorted(unseen)}.")
    return DatasetDict({split: splits[split] for split in ("train", "validation", "test")})


def cut(texts, tokenizer, max_length: int) -> list[str]:
    """The part of each text that the encoder reads, for models that read no tokens: what its limit cuts is cut."""
    limit = min(max_length, tokenizer.model_max_length)
    encoded = tokenizer(list(texts), truncation=True, max_length=limit, return_offsets_mapping=True)
    kept = []
    for text, offsets in zip(texts, encoded["offset_mapping"], strict=True):
        places = [place for place in offsets if place[1] > place[0]]  # special tokens have none
        kept.append(text[min(start for start, _ in places) : max(end for _, end in places)] if places else "")
    return kept


def short_name(dataset: str) -> str:
    """What the results call a dataset: the last two parts of its folder or Hub id."""
    name, size = re.fullmatch(SIZED, dataset).groups()
    known = name != DEFAULT_DATASET and Path(name).is_dir()
    short = "/".join((Path(name).resolve() if known else Path(name)).parts[-2:])
    return f"{short}@{size}" if size else short
