"""What the study writes: heads.csv, a row for each cell, predictions.parquet, one for each example, and tuning.csv.

log_odds.parquet has a row for each cell that met the challenge set: arrays of log p(1)/p(0), in the examples' order,
and the validation split's labels.
"""

import hashlib
import json
import os
import platform
from pathlib import Path

import datasets
import filelock
import numpy as np
import pandas as pd
import torch
import transformers
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss

from companion.study.recipes import TUNED, TUNING, Recipe, identity, protocol, read_tuning
from companion.study.results import CELL, COLUMNS, read_predictions, read_table


class Store:
    """The files of a folder, changed only under a lock, and each written whole before it replaces the last.

    Raises ValueError, with one sentence, for a file in the folder's place, for a table of other columns or made by
    other versions, and for predictions that are missing or damaged.
    """

    def __init__(self, folder: Path, precision: str = "fp32"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"Results need a folder, and {folder} cannot be one ({error.strerror}).") from None
        self.folder, self.table, self.tuning = folder, folder / "heads.csv", folder / "tuning.csv"
        self.predictions, self.log_odds = folder / "predictions.parquet", folder / "log_odds.parquet"
        self.lock = filelock.FileLock(folder / ".lock")
        self.versions = f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
        self.hardware = f"{device}, {torch.get_num_threads()} threads, {precision}"
        rows = self.read()
        if list(rows.columns) != COLUMNS or set(rows["versions"]) - {self.versions}:
            raise ValueError(f"{self.table} was made by other versions than {self.versions}; give another folder.")
        for file in (self.predictions, self.log_odds):
            if file.exists() or (len(rows) and file == self.predictions):
                try:
                    kept = pd.read_parquet(file, columns=CELL).drop_duplicates()
                except (OSError, ValueError):
                    raise ValueError(f"{file} is missing or damaged; restore it, or give another folder.") from None
                if file == self.predictions and len(rows) and len(rows.merge(kept)) < len(rows):
                    raise ValueError(f"{file} lacks cells of {self.table}; restore it, or give another folder.")

    def read(self) -> pd.DataFrame:
        return read_table(self.table) if self.table.exists() else pd.DataFrame(columns=COLUMNS)

    def has(self, cell: dict, recipe: Recipe, challenge: bool = False) -> bool:
        """Was this cell trained by this recipe (and did it meet the challenge set)?"""
        tables, key = [self.read()], [*CELL, "recipe"]
        if challenge:
            tables.append(pd.read_parquet(self.log_odds) if self.log_odds.exists() else pd.DataFrame(columns=key))
        wanted = [*(cell[name] for name in CELL), identity(cell["head"], recipe)]
        return all((rows[key] == wanted).all(axis=1).any() for rows in tables)

    def check_recipes(self, plan: list[tuple[dict, Recipe]]) -> None:
        """Raises ValueError, with one sentence, if cells of a plan are there already, trained by another recipe."""
        rows = self.read().set_index(CELL)["recipe"].to_dict()
        wanted = {tuple(cell.values()): identity(cell["head"], recipe) for cell, recipe in plan}
        others = sum(rows.get(cell, recipe) != recipe for cell, recipe in wanted.items())
        if others:
            raise ValueError(f"{self.table} has {others} of these by other recipes: give another folder, or --replace.")

    def check_texts(self, dataset: str, splits: datasets.DatasetDict) -> None:
        """Raises ValueError, with one sentence, if a dataset's results here were made on other texts or labels."""
        rows = [(splits[name]["text"][:], splits[name]["label"][:]) for name in ("train", "validation", "test")]
        names = [*self.read()["dataset"], *read_tuning(self.tuning)["dataset"]]
        check_unchanged(self.folder / "texts.json", dataset, rows, dataset in {name.split("~")[0] for name in names})

    def add(self, cell: dict, recipe: Recipe, logits: dict, splits: datasets.DatasetDict, **facts) -> dict:
        """Score and store a cell; return its row.

        logits: (N, C) by split, "test" among them. splits: with `label` and `length` (tokens). facts: the row's others.
        """
        test = splits["test"]
        accuracy, loss, predicted = measured(test["label"][:], logits["test"])
        macro_f1 = f1_score(test["label"][:], predicted, labels=np.unique(test["label"][:]), average="macro")
        row = cell | {"split": "test", "accuracy": accuracy, "macro_f1": macro_f1, "loss": loss} | facts
        row |= {"recipe": identity(cell["head"], recipe), "versions": self.versions, "hardware": self.hardware}
        numbers = {"length": test["length"][:], "label": test["label"][:], "prediction": predicted}
        numbers = {"seed": cell["seed"], "example": range(len(test))} | numbers
        examples = pd.DataFrame(cell | {"recipe": row["recipe"]} | numbers).astype(dict.fromkeys(numbers, "int16"))
        with self.lock:
            # The table comes after the predictions: a cell that it lacks is run again, and they are replaced.
            self._append(self.predictions, examples, CELL)
            self._append(self.table, pd.DataFrame([row])[COLUMNS], CELL)
            if "challenge" in logits:
                odds = {split: (z[:, 1] - z[:, 0]).astype("float16") for split, z in logits.items()}
                odds["validation_labels"] = np.array(splits["validation"]["label"][:], "int8")
                self._append(self.log_odds, pd.DataFrame([cell | {"recipe": row["recipe"]} | odds]), CELL)
        return row

    def add_tuning(self, key: dict, recipe: Recipe, logits: np.ndarray, labels, **facts) -> dict:
        """Score and store one setting, tried on validation; return its row. key: the columns TUNING; logits: (N, C)."""
        accuracy, loss, _ = measured(labels, logits)
        row = key | {name: getattr(recipe, name) for name in TUNED} | {"recipe": recipe.checksum}
        row |= {"protocol": protocol(recipe.precision), "accuracy": accuracy, "loss": loss} | facts
        row |= {"versions": self.versions, "hardware": self.hardware}
        with self.lock:
            self._append(self.tuning, pd.DataFrame([row]), [*TUNING, "protocol", "recipe"])
        return row

    def has_tuning(self, key: dict, recipe: Recipe) -> bool:
        wanted = [*key.values(), protocol(recipe.precision), recipe.checksum]
        return (read_tuning(self.tuning)[[*TUNING, "protocol", "recipe"]] == wanted).all(axis=1).any()

    def _append(self, path: Path, rows: pd.DataFrame, key: list[str]) -> None:
        """Add rows to a file; they replace those with the same key."""
        readers = {self.predictions: read_predictions, self.log_odds: pd.read_parquet, self.tuning: read_tuning}
        if path.exists():
            old = readers.get(path, read_table)(path)
            same = (old[key] == rows[key].iloc[0].tolist()).all(axis=1)
            rows = pd.concat([old[~same], rows], ignore_index=True)
        temporary = path.with_suffix(".tmp")
        rows.to_csv(temporary, index=False) if path.suffix == ".csv" else rows.to_parquet(temporary, compression="zstd")
        os.replace(temporary, path)


def check_unchanged(path: Path, name: str, rows, stored: bool) -> None:
    """Note the checksum of `rows` under a name. Raises ValueError if it has changed and there are `stored` results."""
    checksum, temporary = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16], path.with_suffix(".tmp")
    with filelock.FileLock(path.with_name(".texts.lock")):
        known = json.loads(path.read_text()) if path.exists() else {}
        if stored and known.get(name, checksum) != checksum:
            raise ValueError(f"{path.parent} has results of {name} on other texts or labels; give another folder.")
        temporary.write_text(json.dumps(known | {name: checksum}, indent=1) + "\n")
        os.replace(temporary, path)


def measured(labels, logits) -> tuple[float, float, np.ndarray]:
    """(accuracy, cross-entropy, predicted classes (N,)) of logits or log-probabilities (N, C)."""
    log_probabilities = log_softmax(np.asarray(logits, float), axis=1)
    predicted, classes = log_probabilities.argmax(axis=1), range(log_probabilities.shape[1])
    loss = log_loss(labels, np.exp(log_probabilities), labels=classes)
    return float(accuracy_score(labels, predicted)), float(loss), predicted
