"""What is done with a chunk: read it, give each text its class, write its part."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from companion.export.reader import answers
from companion.predict import models
from companion.predict.parts import Parts
from companion.predict.sources import Chunk, Split, chunks, find_sources


@dataclass(frozen=True)
class Job:
    """What is asked for, in words: every machine opens the same sources and the same model by it."""

    input: str
    model: str
    out: str
    column: str = "text"
    explain: bool = False
    int8: bool = False
    rows: int = 4096  # of a chunk: what is held in memory, and what a kill can cost
    tokenizer: str | None = None
    labels: tuple[str, ...] | None = None


class Done(NamedTuple):
    """A finished chunk: how many rows it has, what is wrong with some, and how many are longer than the model reads."""

    rows: int
    errors: list[str]
    longer: int = 0


def digest(source) -> str:
    """A checksum of a source's content: with one letter changed, it is another input."""
    if not isinstance(source, Split):
        with open(source.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    found = hashlib.sha256()
    for batch in source.rows.select_columns(source.column).iter(1000):
        found.update(json.dumps(batch[source.column], default=str).encode())
    return found.hexdigest()


class Work:
    """A job on one machine. Raises ValueError, with one sentence, before anything is written."""

    def __init__(self, job: Job):
        self.job, self.sources = job, find_sources(job.input, job.column)
        self.model = models.load(job.model, job.int8, job.tokenizer, list(job.labels) if job.labels else None)
        listed = hashlib.sha256(json.dumps([(source.name, digest(source)) for source in self.sources]).encode())
        settings: dict = {"input": listed.hexdigest()[:16], "model": models.identify(job.model), "column": job.column}
        settings |= {"explain": job.explain, "int8": job.int8, "rows": job.rows}
        settings |= {"tokenizer": job.tokenizer, "labels": job.labels and list(job.labels)}
        self.parts = Parts(Path(job.out), settings, job.explain)

    def todo(self):
        """The chunks that are not written yet, found one by one."""
        return (chunk for chunk in chunks(self.sources, self.job.rows) if not self.parts.done(chunk))

    def __call__(self, chunk: Chunk) -> Done:
        source = self.sources[chunk.source]
        rows = source.read(chunk, self.job.rows)
        readable = [row for row in rows if row.error is None]
        texts = [row.text for row in readable]
        found = answers(self.model, texts, self.job.explain) if texts else []
        encoded = self.model.tokenizer(texts, truncation=True).encodings if texts else None  # a slow tokenizer has none
        longer = sum(bool(text.overflowing) for text in encoded or [])
        by_line = {row.line: answer for row, answer in zip(readable, found, strict=True)}
        self.parts.write(chunk, source.name, rows, by_line)
        return Done(len(rows), [f"{source.name}, line {row.line}: {row.error}" for row in rows if row.error], longer)
