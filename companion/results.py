"""What `companion.experiment` found: heads.csv, a row for each cell, and predictions.parquet, one for each example.

log_odds.parquet has a row for each cell that met the challenge set: arrays of log p(1)/p(0), in the examples'
order, and the validation split's labels.
"""

import os
import platform
from pathlib import Path

import datasets
import filelock
import numpy as np
import pandas as pd
import torch
import transformers
from sklearn.metrics import accuracy_score, f1_score, log_loss

from companion.answer import read_table
from companion.training import settings_identity

CELL = ["dataset", "head", "regime", "seed", "encoder"]
COLUMNS = [*CELL, "split", "accuracy", "macro_f1", "loss", "seconds", "parameters", "versions", "hardware"]


class Results:
    """The files of a folder, changed only under a lock, and each written whole before it replaces the last.

    Raises ValueError, with one sentence, for a file in the folder's place, a table of other columns, or made by other
    versions or settings, and for predictions that are missing or damaged.
    """

    def __init__(self, folder: Path, bf16: bool = False):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"Results need a folder, and {folder} cannot be one ({error.strerror}).") from None
        self.folder, self.table = folder, folder / "heads.csv"
        self.predictions, self.log_odds = folder / "predictions.parquet", folder / "log_odds.parquet"
        self.lock = filelock.FileLock(folder / ".lock")
        versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
        versions["settings"] = settings_identity()
        self.versions = ", ".join(f"{name} {version}" for name, version in versions.items())
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
        self.hardware = f"{device}, {torch.get_num_threads()} threads, {'bf16' if bf16 else 'fp32'}"
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

    def has(self, cell: dict, challenge: bool = False) -> bool:
        tables = [self.read()]
        if challenge:
            empty = pd.DataFrame(columns=CELL)
            tables.append(pd.read_parquet(self.log_odds, columns=CELL) if self.log_odds.exists() else empty)
        return all((rows[CELL] == [cell[name] for name in CELL]).all(axis=1).any() for rows in tables)

    def check_test(self, dataset: str, encoder: str, test: datasets.Dataset) -> None:
        """Raises ValueError, with one sentence, if the predictions for a dataset were made on another test set.

        Another: of other labels, or texts of other lengths in an encoder's tokens.
        """
        if self.predictions.exists():
            known = pd.read_parquet(self.predictions, filters=[("dataset", "==", dataset)])
            for cell, rows in known.groupby(CELL):
                rows = rows.sort_values("example")
                same = rows["label"].tolist() == test["label"][:]
                if not same or (cell[-1] == encoder and rows["length"].tolist() != test["length"][:]):
                    raise ValueError(f"{self.predictions} has {cell} on another test set; give another folder.")

    def add(self, cell: dict, logits: dict[str, np.ndarray], splits: datasets.DatasetDict, **facts) -> dict:
        """Score a cell's logits for test and keep them; the row. Splits have the columns `label`, `length` (tokens).

        With logits for the challenge set, what it says of every split is kept, too.
        """
        labels, test = splits["test"]["label"][:], splits["test"]
        probabilities = torch.tensor(logits["test"]).softmax(-1).numpy()
        predicted = probabilities.argmax(1)
        row = cell | {"split": "test", "accuracy": accuracy_score(labels, predicted)}
        row |= {"macro_f1": f1_score(labels, predicted, labels=np.unique(labels), average="macro")}
        row |= {"loss": log_loss(labels, probabilities, labels=range(probabilities.shape[1]))} | facts
        row |= {"versions": self.versions, "hardware": self.hardware}
        numbers = {"example": range(len(labels)), "length": test["length"][:], "label": labels, "prediction": predicted}
        examples = pd.DataFrame(cell | numbers).astype({name: "int16" for name in ("seed", *numbers)})
        with self.lock:
            # The table comes after the predictions: a cell that it lacks is run again, and they are replaced.
            self._append(self.predictions, examples)
            self._append(self.table, pd.DataFrame([row])[COLUMNS])
            if "challenge" in logits:
                odds = {split: (z[:, 1] - z[:, 0]).astype("float16") for split, z in logits.items()}
                odds["validation_labels"] = np.array(splits["validation"]["label"][:], "int8")
                self._append(self.log_odds, pd.DataFrame([cell | odds]))
        return row

    def _append(self, path, rows):
        csv = path == self.table
        if path.exists():
            old = read_table(path) if csv else pd.read_parquet(path)
            same = (old[CELL] == rows[CELL].iloc[0].tolist()).all(axis=1)
            rows = pd.concat([old[~same], rows], ignore_index=True)
        temporary = path.with_suffix(".tmp")
        rows.to_csv(temporary, index=False) if csv else rows.to_parquet(temporary, compression="zstd")
        os.replace(temporary, path)
