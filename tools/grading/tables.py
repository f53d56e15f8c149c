"""Tables as spreadsheets read and write them, and the students that their rows name."""

import contextlib
import csv
import io
import unicodedata
from collections.abc import Collection
from pathlib import Path

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


def text_in(path: Path) -> str:
    """What is in a file, as editors and spreadsheets save it: UTF-8, UTF-16 or a Windows code page."""
    data = path.read_bytes()
    for encoding in ("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "cp1252"):
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode(encoding)
    return data.decode("latin-1")


def read_table(path: Path) -> list[dict]:
    """The rows of a CSV as spreadsheets save it: with commas, semicolons or tabs.

    Raises ValueError, with one sentence, for a file that is not a CSV.
    """
    text = text_in(path)
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise ValueError(f"{path} is not a table: {error}.") from None


def table(head: list[str], rows: list[list[str]], end: str = "\n") -> str:
    """A CSV in which a spreadsheet finds no formula to run."""
    text = io.StringIO()
    safe = [[f"'{v}" if v.startswith(FORMULA) and v != "-" else v for v in row] for row in rows]
    csv.writer(text, lineterminator=end).writerows([head, *safe])
    return text.getvalue()


def shown(value: str) -> str:
    """A cell of a table as it was before `table` kept a spreadsheet from running it."""
    return value[1:] if value[:1] == "'" and value[1:].startswith(FORMULA) else value


def meant(name: str, students: Collection[str]) -> str:
    """The student that a name in a table refers to; the name itself if it fits nobody or more than one student.

    A spreadsheet turns 0012345 into 12345, and an é can be one character or two.
    """
    same = [student for student in students if plain(student) == plain(name)]
    return name if name in students or len(same) != 1 else same[0]


def plain(name: str) -> str:
    name = unicodedata.normalize("NFC", name).strip()
    return name.lstrip("0") if name.isdigit() else name
