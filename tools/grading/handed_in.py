"""What students handed in: folders of theirs, or the flat folder that Canvas or Moodle exports; and the roster.

folder/STUDENT/NAME.ipynb, nbgrader's folder/STUDENT/NAME/NAME.ipynb, Canvas's doejane_LATE_123_456_NAME.ipynb, and
Moodle's "Jane Doe_123_assignsubmission_file_NAME.ipynb", as a file or as a folder.
"""

import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

from tools.grading.course import digest
from tools.grading.execution import files_beside
from tools.grading.sandbox import MB
from tools.grading.tables import meant, read_table

CANVAS = re.compile(r"(?P<name>[^_]+)_(?P<late>LATE_)?(?P<id>\d+)_\d+_(?P<file>.+)", re.S)
MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(file|onlinetext)(_(?P<file>.*))?", re.S)
# What browsers and desktops add to a name: "Copy of NAME", "NAME (1)", "NAME-Copy1", "NAME - Copy", Canvas's "NAME-2".
ADDED = re.compile(r"^copy of |( ?\(\d+\)|[-_ ]+copy ?\d*|-\d+)$", re.I)
# Control characters, which would garble the report.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
LARGEST = 20 * MB  # of a submitted notebook
HIDDEN = (".", "__MACOSX")
MISSING = "nothing was handed in"


@dataclass(frozen=True)
class Submission:
    student: str
    path: Path
    problem: str = ""  # why it cannot be graded, known from its name or kind
    name: str = ""  # of the assignment, if the file is called something else
    system: str = ""  # canvas or moodle: where it was exported
    number: str = ""  # the student's, there
    late: bool = False
    flat: bool = False  # it lies among everybody's files
    notice: str = ""  # what a person should know

    @property
    def files(self) -> Path | None:
        """The folder with the files that came with it."""
        return None if self.flat else self.path.parent

    @property
    def assignment(self) -> str:
        return self.name or text_of(self.path.stem)

    @property
    def file(self) -> str:
        """A name for what is written about it, as short as file systems want it."""
        return short(f"{self.assignment}{self.path.suffix}" if self.problem else self.path.name)


def text_of(name: str) -> str:
    """A file's name as text in one line, whatever bytes it has."""
    raw = name.encode("utf-8", "surrogateescape")
    clean = UNPRINTABLE.sub("\ufffd", raw.decode("utf-8", "replace"))
    return clean if clean == name else f"{clean}-{hashlib.sha256(raw).hexdigest()[:6]}"


def short(name: str, most: int = 120) -> str:
    name = text_of(name)
    if len(name.encode()) <= most:
        return name
    return f"{name.encode()[: most - 12].decode('utf-8', 'ignore')}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def called(file: str, known) -> str:
    """The assignment that a file's name means, or ""."""
    same = {unicodedata.normalize("NFC", name).casefold(): name for name in known}
    stem = unicodedata.normalize("NFC", re.sub(r"\.ipynb$", "", file, flags=re.I)).strip()
    while stem.casefold() not in same:
        less = ADDED.sub("", stem, count=1).strip()
        if less == stem:
            return ""
        stem = less
    return same[stem.casefold()]


def find_submissions(folder: Path, known, roster: Path | None = None) -> list[Submission]:
    """All that students handed in, sorted; what has a wrong name or kind is among it, and who handed in nothing."""
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}; SUBMISSIONS is a folder with one folder for each student.")
    listed, found, empty = read_roster(roster) if roster else [], [], {}
    for path in ordered(folder):
        name = text_of(path.name)
        moodle, canvas = MOODLE.fullmatch(name), None if path.is_dir() else CANVAS.fullmatch(name)
        if exported := moodle or canvas:
            who = {"system": "moodle" if moodle else "canvas", "number": exported["id"]}
            who["student"] = exported["id"] if exported["id"] in listed else f"{exported['name']}_{exported['id']}"
        else:
            who = {"student": short(name)}
        if path.is_dir():
            mine = in_folder(path, known, who)
        elif exported and exported["file"]:
            who |= {"flat": True, "late": bool(canvas and canvas["late"])}
            mine = list(filter(None, [submission(path, exported["file"], known, who)]))
        elif path.suffix.lower() == ".ipynb" or path.stem in known:
            mine = [Submission("?", path, "the file lies in no student's folder", flat=True)]
        else:
            continue
        found += mine
        if not mine:
            empty.setdefault(who["student"], path)
    found = [one for who in unique(s.student for s in found) for one in best([s for s in found if s.student == who])]
    if listed:
        there = {*empty, *(s.student for s in found)}
        listed = unique(meant(name, there) for name in listed)
        strange = "this student is not on the roster"
        found = [s if s.student in listed else replace(s, notice=strange) for s in found]
    if not found and not empty and not listed:
        raise ValueError(f"There is no submission in {folder}: they are looked for as STUDENT/ASSIGNMENT.ipynb.")
    return sorted(
        found + missing(found, empty, listed, known), key=lambda s: (s.student == "?", s.student, s.assignment)
    )


def missing(found: list[Submission], empty: dict, listed: list[str], known) -> list[Submission]:
    """A row for everybody who handed in nothing that could be graded: who is on the roster, or left other files."""
    graded = unique(s.assignment for s in found if s.assignment in known) or list(known)
    there, students = {(s.student, s.assignment) for s in found}, {s.student for s in found}
    rows = []
    for student in unique([*empty, *listed]):
        if student in listed or student not in students:
            why = nothing_in(empty[student]) if student in empty else MISSING
            rows += [
                Submission(student, Path(f"{name}.ipynb"), why, name) for name in graded if (student, name) not in there
            ]
    return rows


def ordered(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(HIDDEN))
    except OSError:  # a folder that may not be read is as good as empty
        return []


def unique(values) -> list:
    return list(dict.fromkeys(values))


def in_folder(folder: Path, known, who: dict) -> list[Submission]:
    """The notebooks in a student's folder, and in folders there that have an assignment's name."""
    paths = ordered(folder)
    inner = [path for path in paths if path.is_dir() and not path.is_symlink() and path.name in known]
    paths = [path for path in paths if path not in inner] + [path for sub in inner for path in ordered(sub)]
    return [one for path in paths if (one := submission(path, text_of(path.name), known, who))]


def submission(path: Path, file: str, known, who: dict) -> Submission | None:
    """The submission that a file is; None for one that came with a notebook."""
    notebook = is_notebook(file)
    if not notebook and not file.startswith(tuple(known)):
        return None
    name, problem = called(file, known), ""
    if path.is_symlink():
        problem = "it is a link, not a file"
    elif not notebook or not path.is_file():
        problem = "it is not a notebook (NAME.ipynb)"
    elif not name:
        near = [other for other in known if file.startswith(other)]
        problem = f"no assignment has this name; the names are {', '.join(near or known)}"
    elif not os.access(path, os.R_OK):
        problem = "the file may not be read"
    elif path.stat().st_size > LARGEST:
        problem = f"the file is larger than {LARGEST // MB} MB"
    return Submission(path=path, problem=problem, name=name or short(re.sub(r"\.\w+$", "", file)), **who)


def is_notebook(file: str) -> bool:
    return file.lower().endswith(".ipynb")


def best(found: list[Submission]) -> list[Submission]:
    """Of several files for one assignment the one with its very name counts, or the last; the others say so.

    Each has a name of its own, so that nobody has two rows for one assignment.
    """
    kept = []
    for name in unique(s.assignment for s in found):
        same = [s for s in found if s.assignment == name]
        good = sorted((s for s in same if not s.problem), key=lambda s: (s.path.stem == name, number_in(s), s.path))
        counts = (good or same)[-1]
        for one in same:
            if one is not counts and (is_notebook(one.path.name) or not good):  # others lie beside it
                problem = f"{text_of(counts.path.name)} counts; take that one away to have this one graded"
                own = f"{text_of(one.path.name)} in {text_of(one.path.parent.name)}"
                own = own if one.path.stem in (name, *(s.assignment for s in kept)) else one.path.stem
                one = replace(one, problem=one.problem or problem, name=short(own))
                kept.append(one)
        kept.append(counts)
    return kept


def number_in(one: Submission) -> int:
    """The number that was added to the assignment's name, or 0."""
    added = one.path.stem.casefold().rpartition(one.assignment.casefold())[2]
    return int((re.findall(r"\d+", added) or [0])[-1])


def nothing_in(path: Path) -> str:
    names = [text_of(p.name) for p in ordered(path)][:5] if path.is_dir() else [text_of(path.name)]
    return f"there is no notebook, but {', '.join(names)}" if names else "the folder is empty"


def read_roster(path: Path) -> list[str]:
    """The students of a CSV with a column `student`, or of its first column."""
    try:
        rows = read_table(path)
    except OSError:
        raise ValueError(f"The roster {path} cannot be read.") from None
    students = [(row.get("student") or next(iter(row.values()), "") or "").strip() for row in rows]
    if not any(students):
        raise ValueError(f"There is no student in the roster {path}: it is a CSV with a column student.")
    return unique(filter(None, students))


def version(one: Submission) -> str:
    """Changes when what the student handed in changes."""
    if one.problem:
        return digest(one.problem.encode())
    beside = files_beside(one.files)
    return digest(one.path.read_bytes(), *(part for f in beside for part in (os.fsencode(f.name), f.read_bytes())))
