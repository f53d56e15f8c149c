"""What `companion.experiment` found: heads.csv, a row for each cell, and predictions.parquet, one for each example."""

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

CELL = ["dataset", "head", "regime", "seed", "encoder"]
COLUMNS = [*CELL, "split", "accuracy", "macro_f1", "loss", "seconds", "parameters", "versions", "hardware"]


class Results:
    """The two files of a folder, changed only under a lock, and each written whole before it replaces the last.

    Raises ValueError, with one sentence, for a table of other columns or made by other versions.
    """

    def __init__(self, folder: Path, bf16: bool = False):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.table, self.predictions = folder, folder / "heads.csv", folder / "predictions.parquet"
        self.lock = filelock.FileLock(folder / ".lock")
        self.versions = f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
        self.hardware = f"{device}, {torch.get_num_threads()} threads, {'bf16' if bf16 else 'fp32'}"
        rows = self.read()
        if list(rows.columns) != COLUMNS or set(rows["versions"]) - {self.versions}:
            raise ValueError(f"{self.table} was made by other versions than {self.versions}; give another folder.")

    def read(self) -> pd.DataFrame:
        return pd.read_csv(self.table) if self.table.exists() else pd.DataFrame(columns=COLUMNS)

    def has(self, cell: dict) -> bool:
        rows = self.read()
        return bool((rows[CELL] == [cell[name] for name in CELL]).all(axis=1).any())

    def add(self, cell: dict, logits: np.ndarray, test: datasets.Dataset, **facts) -> dict:
        """Score a cell's logits for test, whose columns are `label` and `length` (tokens), and keep them; the row."""
        labels = test["label"][:]
        probabilities = torch.tensor(logits).softmax(-1).numpy()
        predicted = probabilities.argmax(1)
        row = cell | {"split": "test", "accuracy": accuracy_score(labels, predicted)}
        row |= {"macro_f1": f1_score(labels, predicted, average="macro")}
        row |= {"loss": log_loss(labels, probabilities, labels=range(probabilities.shape[1]))} | facts
        row |= {"versions": self.versions, "hardware": self.hardware}
        numbers = {"example": range(len(labels)), "length": test["length"][:], "label": labels, "prediction": predicted}
        examples = pd.DataFrame(cell | numbers).astype({name: "int16" for name in ("seed", *numbers)})
        with self.lock:
            # The table comes last: a cell that it lacks is run again, and its predictions replaced.
            self._append(
                self.predictions,
                examples,
                pd.read_parquet,
                lambda rows, path: rows.to_parquet(path, compression="zstd"),
            )
            self._append(self.table, pd.DataFrame([row])[COLUMNS], pd.read_csv, lambda rows, path: rows.to_csv(path))
        return row

    def _append(self, path, rows, read, write):
        if path.exists():
            old = read(path)
            same = (old[CELL] == rows[CELL].iloc[0].tolist()).all(axis=1)
            rows = pd.concat([old[~same], rows], ignore_index=True)
        temporary = path.with_suffix(".tmp")
        write(rows.set_index(CELL[0]) if path == self.table else rows, temporary)
        os.replace(temporary, path)
