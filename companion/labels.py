"""What labels mean: one class, several classes at once, or a number; and the same in every split.

The type of a split's column `label` says which of transformers' three problem types it is; see `problem_type`.
"""

import math
import re
from itertools import chain

import datasets

UNLABELLED = "-1"  # how datasets mark a row whose label is not known
BITS = {"0": False, "1": True, "False": False, "True": True}
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def problem_type(feature) -> str:
    """transformers' name for what the column `label` holds."""
    if isinstance(feature, datasets.ClassLabel):
        return "single_label_classification"
    return "regression" if isinstance(feature, datasets.Value) else "multi_label_classification"


def label_names(feature) -> list[str]:
    """The names of a model's outputs: of the classes, or "score" for a number."""
    return ["score"] if problem_type(feature) == "regression" else names_of(feature)


def names_of(feature) -> list[str]:
    """The class names that a feature declares, for one class or for lists of them."""
    return getattr(getattr(feature, "feature", feature), "names", [])


def unify(splits: dict, name: str) -> dict:
    """The same splits with labels of one type and one meaning; splits without any label are left out.

    One class per text becomes `ClassLabel`. Lists of classes, or of 0 and 1 for every class, become
    `List(ClassLabel)`. Numbers become float32 if at least one of them is not whole. The classes are those that train
    declares or has, and those of other splits are matched with them by name, however each split stores them.
    Raises ValueError, with one sentence, for a missing label, and for one that training does not know.
    """
    columns = {split: read(rows, f"split '{split}' of '{name}'") for split, rows in splits.items()}
    columns = {split: labels for split, labels in columns.items() if set(map(str, labels)) != {UNLABELLED}}
    if not columns:
        raise ValueError(f"'{name}' has no split with labels.")
    several = {isinstance(labels[0], list) for labels in columns.values()} == {True}
    if not several and any(isinstance(labels[0], list) for labels in columns.values()):
        raise ValueError(f"The labels of '{name}' are lists in some of its splits, and single values in others.")
    rows = {split: labels if several else [[label] for label in labels] for split, labels in columns.items()}
    if not several and is_regression(columns):
        numbers = {split: list(map(float, labels)) for split, labels in columns.items()}
        return {split: replace(splits[split], labels, datasets.Value("float32")) for split, labels in numbers.items()}
    for split, labels in rows.items():
        if [UNLABELLED] in labels:
            unlabelled = "(-1). If -1 is a class, write the classes as words"
            raise ValueError(f"The split '{split}' of '{name}' has rows without a label {unlabelled}.")
    declared = {split: names_of(splits[split].features["label"]) for split in rows}
    if several and not any(declared.values()) and all(map(is_multi_hot, rows.values())):
        if len({len(labels[0]) for labels in rows.values()}) > 1:
            raise ValueError(f"The labels of '{name}' are lists of different lengths in its splits.")
        declared = {split: [str(i) for i in range(len(labels[0]))] for split, labels in rows.items()}
        rows = {s: [[str(i) for i, bit in enumerate(row) if BITS[bit]] for row in labels] for s, labels in rows.items()}
    if twice := [row for row in chain(*rows.values()) if len(set(row)) < len(row)]:
        raise ValueError(f"The label {twice[0]} of '{name}' names a class twice, or lacks a 0 or 1 for some class.")
    used = {split: sort(set(chain(*labels))) for split, labels in rows.items()}
    known = {split: declared[split] or used[split] for split in rows}
    classes = known["train"] if "train" in known else list(dict.fromkeys(chain(*known.values())))
    feature, found = datasets.ClassLabel(names=classes), {}
    for split, labels in rows.items():
        number = match(used[split], classes, f"split '{split}' of '{name}'")
        ids = [[number[label] for label in row] for row in labels]
        values, kind = (ids, datasets.List(feature)) if several else (list(chain(*ids)), feature)
        found[split] = replace(splits[split], values, kind)
    return found


def read(rows, where: str) -> list:
    """Every row's label as text, or as a list of texts. Raises ValueError for a missing label."""
    feature = rows.features["label"]
    inner = getattr(feature, "feature", feature)
    if not isinstance(inner, (datasets.ClassLabel, datasets.Value)):
        raise ValueError(f"A label in the {where} is not one value or a list of values: {rows['label'][0]!r}.")

    def meaning(value, row):
        if isinstance(value, list):
            return [meaning(one, row) for one in value]
        if value is None or not str(value).strip() or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"The {where} has rows without a label; row {row} is the first.")
        if inner is not feature and isinstance(value, float) and not value.is_integer():
            raise ValueError(
                f"Row {row} of the {where} has {value} in its list of labels; there each class has 0 or 1."
            )
        if isinstance(inner, datasets.ClassLabel) and value != -1:
            return inner.int2str(value)
        if inner is feature and re.fullmatch(r"\[.*\]", str(value)):
            raise ValueError(f"A label in the {where} is a list as text, {value}: store lists as JSON or Parquet.")
        return re.sub(r"^(-?\d+)\.0+$", r"\1", str(value))  # 1.0 and 1 are the same class

    return [meaning(value, row) for row, value in enumerate(rows["label"], start=1)]


def is_regression(columns: dict) -> bool:
    """Whether all labels are numbers, and at least one of them is not whole."""
    labels = set(chain(*columns.values()))
    words = {label for label in labels if not NUMBER.fullmatch(label)}
    numbers = {label for label in labels - words if not float(label).is_integer()}
    if words and numbers:
        raise ValueError(f"Labels are numbers, such as {min(numbers)}, or words, such as {min(words)!r}, and not both.")
    return bool(numbers)


def is_multi_hot(labels: list[list[str]]) -> bool:
    """Whether each row says of each class, by 0 or 1, whether it applies."""
    return len(labels[0]) > 1 and {len(row) for row in labels} == {len(labels[0])} and set(chain(*labels)) <= set(BITS)


def sort(names: set[str]) -> list[str]:
    """Whole numbers by size, other names by the alphabet."""
    return sorted(names, key=int if all(re.fullmatch(r"-?\d+", name) for name in names) else None)


def match(labels: list[str], classes: list[str], where: str) -> dict[str, int]:
    """label -> its class's number, by name; or by the only name that differs in case or outer space alone."""
    numbers = {name: number for number, name in enumerate(classes)}
    for label in labels:
        alike = [name for name in classes if name.strip().casefold() == label.strip().casefold()]
        if label not in numbers and len(alike) == 1:
            numbers[label] = numbers[alike[0]]
        if label not in numbers:
            listed = ", ".join(map(repr, classes[:6])) + (", ..." if classes[6:] else "")
            raise ValueError(f"The {where} has the label '{label}', which is not among training's: {listed}.")
    return numbers


def replace(rows: datasets.Dataset, labels: list, feature) -> datasets.Dataset:
    return rows.remove_columns("label").add_column("label", labels, feature=feature)
