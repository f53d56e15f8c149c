"""The course's assignments, with solutions and hidden tests."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode
from nbgrader import utils

from tools import coursework
from tools.grading import preflight


@dataclass(frozen=True)
class Assignment:
    """One of the course's notebooks, with solutions and hidden tests, and the students' version of it."""

    name: str
    source: NotebookNode
    released: NotebookNode
    max_score: float
    digest: str


def load_assignments(folder: Path) -> dict[str, Assignment]:
    """The assignments in folder/NAME/NAME.ipynb. Raises ValueError, with one sentence, for one that is not in order."""
    config, config_file = coursework.load_config(folder.parent), folder.parent / coursework.CONFIG.name
    assignments = {}
    for path in coursework.sources(folder):
        text = path.read_text(encoding="utf-8")
        try:
            source = preflight.read(text)
            coursework.check(source, path.stem)
        except ValueError as error:
            raise ValueError(f"The assignment {path.stem} cannot be used: {error}") from error
        graded = [cell for cell in source.cells if is_graded(cell)]
        if not graded:
            raise ValueError(f"The assignment {path.stem} has no graded cell.")
        assignments[path.stem] = Assignment(
            name=path.stem,
            source=source,
            released=coursework.release(source, config),
            max_score=sum(float(cell.metadata.nbgrader.points) for cell in graded),
            digest=digest(text.encode(), config_file.read_bytes() if config_file.is_file() else b""),
        )
    return assignments


def is_graded(cell) -> bool:
    return utils.is_grade(cell) or utils.is_task(cell)


def is_test(cell) -> bool:
    return utils.is_grade(cell) and not utils.is_solution(cell) and cell.cell_type == "code"


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]
