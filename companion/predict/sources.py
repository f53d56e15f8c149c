"""A file, a folder or a dataset -> chunks of rows, each of which can be read by itself, on any machine."""

import csv
import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import datasets
import pyarrow
from pyarrow import parquet

from companion.files import HIDDEN, PACKAGED, is_text, read_splits

KINDS = re.compile(r".+\.(parquet|(jsonl|ndjson|csv|tsv|txt)(\.gz)?)", re.IGNORECASE)


class Row(NamedTuple):
    """A text and the line it begins on, from 1 (in Parquet and datasets its row), or why there is none."""

    line: int
    text: str | None
    error: str | None = None


class Chunk(NamedTuple):
    """Some consecutive rows: of which source, the how-manieth, and where they begin (byte or row; line)."""

    source: int
    number: int
    start: int
    line: int


def checked(line: int, text) -> Row:
    """The row of a text, or of what stands in its place."""
    if text is None:
        return Row(line, None, "the text is missing")
    if not isinstance(text, str):
        return Row(line, None, f"the text is not a string but {type(text).__name__}")
    if not is_text(text) or "\0" in text:  # bytes that are not UTF-8 are lone surrogates; UTF-16 has zeros
        return Row(line, None, "the text is not valid UTF-8")
    return Row(line, text) if text.strip() else Row(line, None, "the text is empty")


class Lines:
    """The lines of a binary stream as text; knows the byte and the line that come next."""

    def __init__(self, stream, start: int, line: int):
        self.stream, self.start, self.line = stream, start, line
        stream.seek(start)

    def __iter__(self):
        return self

    def __next__(self) -> str:
        try:
            raw = self.stream.readline()
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"'{self.stream.name}' is damaged: {error}.") from None
        if not raw:
            raise StopIteration
        text = raw.decode("utf-8" if self.start else "utf-8-sig", errors="surrogateescape")
        self.start, self.line = self.start + len(raw), self.line + 1
        return text


@dataclass
class TextFile:
    """JSON lines, CSV, TSV or plain text, gzipped or not. Blank lines are not rows."""

    name: str
    path: Path
    column: str

    def __post_init__(self):
        self.kind = KINDS.fullmatch(self.path.name)[2].lower()
        self.header, self.begins = None, (0, 1)
        if self.kind in ("csv", "tsv"):
            csv.field_size_limit(10_000_000)  # characters: a quotation mark that is never closed ends there
            with self.open() as stream:
                lines = Lines(stream, 0, 1)
                try:
                    self.header = next(filter(None, self.reader(lines)), [])
                except csv.Error as error:
                    raise ValueError(f"The first line of '{self.name}' is not CSV: {error}.") from None
                self.begins = (lines.start, lines.line)
            if (count := self.header.count(self.column)) != 1:
                found = ", ".join(self.header) if is_text("".join(self.header)) else "no text in UTF-8"
                many = f"{count} columns" if count else "no column"
                raise ValueError(f"'{self.name}' has {many} '{self.column}'; it has {found}.")

    def open(self):
        return gzip.open(self.path) if self.path.suffix.lower() == ".gz" else open(self.path, "rb")

    def reader(self, lines):
        return csv.reader(lines, delimiter="\t" if self.kind == "tsv" else ",", strict=True)

    def scan(self, start: int, line: int) -> Iterator[tuple[Row, int, int]]:
        """Every row from a place on, and the place after it: (row, byte, line)."""
        with self.open() as stream:
            lines = Lines(stream, start, line)
            for row in self.csv_rows(lines) if self.header else self.line_rows(lines):
                yield row, lines.start, lines.line

    def line_rows(self, lines: Lines) -> Iterator[Row]:
        for number, text in zip(itertools.count(lines.line), lines):
            if text.strip():
                yield checked(number, text.rstrip("\r\n")) if self.kind == "txt" else self.json_row(number, text)

    def json_row(self, number: int, text: str) -> Row:
        try:
            found = json.loads(text.rstrip())
        except json.JSONDecodeError as error:
            return Row(number, None, f"the line is not JSON ({error.msg}: column {error.colno})")
        except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists in lists
            return Row(number, None, "the line is not JSON that can be read")
        is_row = isinstance(found, dict)
        return checked(number, found.get(self.column)) if is_row else Row(number, None, "the line is not a JSON object")

    def csv_rows(self, lines: Lines) -> Iterator[Row]:
        place, reader = self.header.index(self.column), self.reader(lines)
        while True:
            start, number = lines.start, lines.line
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:  # perhaps an open quotation mark: read on after the row's first line
                lines.stream.seek(start)
                lines.start, lines.line = start + len(lines.stream.readline()), number + 1
                reader = self.reader(lines)
                yield Row(number, None, f"the row is not CSV ({error})")
                continue
            if len(fields) == len(self.header):
                yield checked(number, fields[place])
            elif fields:
                yield Row(number, None, f"the row has {len(fields)} values for {len(self.header)} columns")

    def places(self, size: int) -> Iterator[tuple[int, int]]:
        """Where each chunk of `size` rows begins: (byte, line)."""
        place = self.begins
        for number, (_, *after) in enumerate(self.scan(*self.begins)):
            if number % size == 0:
                yield place
            place = tuple(after)

    def read(self, chunk: Chunk, size: int) -> list[Row]:
        return [row for row, *_ in itertools.islice(self.scan(chunk.start, chunk.line), size)]


class Table:
    """Rows that have numbers: where chunks begin needs no search."""

    size: int

    def texts(self, start: int, stop: int) -> list:
        """The values from row `start` to row `stop`."""
        raise NotImplementedError

    def places(self, size: int) -> Iterator[tuple[int, int]]:
        return ((start, start + 1) for start in range(0, self.size, size))

    def read(self, chunk: Chunk, size: int) -> list[Row]:
        texts = self.texts(chunk.start, min(chunk.start + size, self.size))
        return [checked(number, text) for number, text in enumerate(texts, chunk.line)]


@dataclass
class ParquetFile(Table):
    name: str
    path: Path
    column: str

    def __post_init__(self):
        try:
            found = parquet.ParquetFile(self.path)
        except (pyarrow.ArrowException, OSError):
            raise ValueError(f"'{self.name}' is no Parquet file, or damaged.") from None
        if self.column not in found.schema_arrow.names:
            names = found.schema_arrow.names
            raise ValueError(f"'{self.name}' has no column '{self.column}'; it has {', '.join(names)}.")
        self.size = found.metadata.num_rows

    def texts(self, start: int, stop: int) -> list:
        """Row groups outside are not read."""
        found, first, groups, before = parquet.ParquetFile(self.path), 0, [], None
        for group in range(found.num_row_groups):
            after = first + found.metadata.row_group(group).num_rows
            if first < stop and after > start:
                groups, before = [*groups, group], first if before is None else before
            first = after
        values, place = [], before
        for batch in found.iter_batches(4096, row_groups=groups, columns=[self.column]):
            if place + len(batch) > start:
                values += batch.column(0).slice(max(start - place, 0), stop - max(start, place)).to_pylist()
            place += len(batch)
            if place >= stop:
                break
        return values


@dataclass
class Split(Table):
    name: str
    rows: datasets.Dataset
    column: str

    def __post_init__(self):
        if self.column not in self.rows.column_names:
            names = ", ".join(self.rows.column_names)
            raise ValueError(f"The split '{self.name}' has no column '{self.column}'; it has {names}.")
        self.size = len(self.rows)

    def texts(self, start: int, stop: int) -> list:
        return list(self.rows[start:stop][self.column])


def find_sources(name: str, column: str = "text") -> list:
    """The sources that a name stands for: a file, the files of a folder, the splits of a dataset.

    Raises ValueError, with one sentence, for unknown kinds of files, a missing column, and what the Hub does not give.
    """
    path = PACKAGED.get(name, Path(name))
    if path.is_file():
        if not KINDS.fullmatch(path.name):
            raise ValueError(f"'{name}' is not one of .parquet, .jsonl, .csv, .tsv and .txt.")
        return [open_file(path.name, path, column)]
    if not path.is_dir() or (path / "dataset_dict.json").is_file():
        return [Split(split, rows, column) for split, rows in read_splits(name).items()]
    names = {file.relative_to(path): file for file in sorted(path.rglob("*")) if KINDS.fullmatch(file.name)}
    shown = [place for place in names if not any(part.startswith(HIDDEN) for part in place.parts)]
    visible = {place: names[place] for place in shown if names[place].is_file()}
    if not visible:
        raise ValueError(f"The folder '{name}' holds no .parquet, .jsonl, .csv, .tsv or .txt file.")
    return [open_file(place.as_posix(), file, column) for place, file in visible.items()]


def open_file(name: str, path: Path, column: str):
    return (ParquetFile if path.suffix.lower() == ".parquet" else TextFile)(name, path, column)


def chunks(sources: list, size: int) -> Iterator[Chunk]:
    """All chunks of all sources, in order, found one by one."""
    return (Chunk(i, j, *place) for i, one in enumerate(sources) for j, place in enumerate(one.places(size)))
