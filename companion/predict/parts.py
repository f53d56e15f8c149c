"""The output folder: a Parquet file for each chunk, which is there either whole or not at all."""

import json
import os
import uuid
from pathlib import Path

import pyarrow
from pyarrow import parquet

from companion.predict.sources import Chunk, Row

NGRAM = pyarrow.struct({"ngram": "string", "start": "int32", "end": "int32", "weight": "float32"})
COLUMNS = {"file": "string", "line": "int64", "text": "string", "label": "string", "probability": "float64"}
COLUMNS |= {"error": "string"}


def replace(path: Path, write) -> None:
    """Let `write` fill a file of another name, make sure that it is on the disk, and give it its name."""
    made = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    write(made)
    with open(made, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(made, path)


class Parts:
    """The parts of one run, and what run it is: `_run.json`, which readers of Parquet folders skip.

    Raises ValueError, with one sentence, if the folder holds the output of another run, or something else.
    """

    def __init__(self, folder: Path, settings: dict, ngrams: bool):
        self.folder, self.schema = (
            folder,
            pyarrow.schema(COLUMNS | ({"ngrams": pyarrow.list_(NGRAM)} if ngrams else {})),
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"The folder '{folder}' cannot be made: {error.strerror}.") from None
        if not (kept := folder / "_run.json").exists():
            if any(not path.name.startswith(".") for path in folder.iterdir()):
                raise ValueError(f"'{folder}' is not empty, and holds no output of this command; give another folder.")
            replace(kept, lambda path: path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8"))
        found = json.loads(kept.read_text(encoding="utf-8"))
        if differ := [name for name in settings if found.get(name) != settings[name]]:
            raise ValueError(f"'{folder}' holds a run with another {' and '.join(differ)}; give another folder.")

    def clean(self) -> None:
        """Remove what a killed process has left unfinished. Only while no other process writes."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink()

    def path(self, chunk: Chunk) -> Path:
        return self.folder / f"part-{chunk.source:05d}-{chunk.number:06d}.parquet"

    def done(self, chunk: Chunk) -> bool:
        return self.path(chunk).exists()

    def write(self, chunk: Chunk, name: str, rows: list[Row], answers: dict) -> None:
        """One row of output for each row of input. answers: {line: Answer} of the rows that have a text."""
        columns = {column: [] for column in self.schema.names}
        for line, text, error in rows:
            found = answers.get(line)
            values = [name, line, text, found and found.label, found and found.probability, error]
            if "ngrams" in columns:
                values.append(found and [(text[start:end], start, end, value) for start, end, value in found.ngrams])
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
        if "ngrams" in columns:
            names = NGRAM.names
            columns["ngrams"] = [n and [dict(zip(names, one, strict=True)) for one in n] for n in columns["ngrams"]]
        table = pyarrow.table(columns, schema=self.schema)
        replace(self.path(chunk), lambda path: parquet.write_table(table, path))
