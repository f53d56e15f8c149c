"""What there is to grade: the course's assignments, and what students handed in."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode
from nbgrader import utils
from traitlets.config import Config, PyFileConfigLoader

from tools import coursework
from tools.grading import preflight
from tools.grading.execution import files_beside


@dataclass(frozen=True)
class Assignment:
    """One of the course's notebooks, with solutions and hidden tests, and the students' version of it."""

    name: str
    source: NotebookNode
    released: NotebookNode
    max_score: float
    digest: str


@dataclass(frozen=True)
class Submission:
    student: str
    path: Path
    problem: str = ""  # why it cannot be graded, known from its name or kind

    @property
    def assignment(self) -> str:
        return self.path.stem


def load_assignments(folder: Path) -> dict[str, Assignment]:
    """The assignments in folder/NAME/NAME.ipynb."""
    config_file = folder.parent / "nbgrader_config.py"
    config = Config()
    if config_file.is_file():
        config = PyFileConfigLoader(config_file.name, str(config_file.parent)).load_config()
    assignments = {}
    for path in sorted(folder.glob("*/*.ipynb")):
        if path.stem != path.parent.name:
            continue
        text = path.read_text(encoding="utf-8")
        try:
            source = preflight.read(text)
            coursework.check(source, path.stem)
        except ValueError as error:
            raise SystemExit(f"The assignment {path.stem} cannot be used: {error}") from error
        released = preflight.release(source, config)
        graded = [cell for cell in source.cells if is_graded(cell)]
        if not graded:
            raise SystemExit(f"The assignment {path.stem} has no graded cell.")
        assignments[path.stem] = Assignment(
            name=path.stem,
            source=source,
            released=released,
            max_score=sum(float(cell.metadata.nbgrader.points) for cell in graded),
            digest=digest(text.encode(), config_file.read_bytes() if config_file.is_file() else b""),
        )
    if not assignments:
        raise SystemExit(f"There is no assignment in {folder}: it should have folders NAME with NAME.ipynb in them.")
    return assignments


def is_graded(cell) -> bool:
    return utils.is_grade(cell) or utils.is_task(cell)


def is_test(cell) -> bool:
    return utils.is_grade(cell) and not utils.is_solution(cell) and cell.cell_type == "code"


def find_submissions(folder: Path, known) -> list[Submission]:
    """All that students handed in, sorted; what has a wrong name or kind is among it, with the problem."""
    if not folder.is_dir():
        raise SystemExit(f"There is no folder {folder}; SUBMISSIONS is a folder with one folder for each student.")
    found = []
    for student in sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))):
        if not student.is_dir():
            if student.suffix == ".ipynb" or student.stem in known:
                found.append(Submission("?", student, "the file lies in no student's folder"))
            continue
        for path in sorted(path for path in student.iterdir() if not path.name.startswith((".", "__MACOSX"))):
            if path.suffix != ".ipynb" and not path.name.startswith(tuple(known)):
                continue  # a file that came with a notebook
            problem = ""
            if path.is_symlink():
                problem = "it is a link, not a file"
            elif path.suffix != ".ipynb" or not path.is_file():
                problem = "it is not a notebook (NAME.ipynb)"
            elif path.stem not in known:
                near = [name for name in known if path.stem.startswith(name)]
                problem = f"no assignment has this name; the names are {', '.join(near or known)}"
            found.append(Submission(student.name, path, problem))
    if not found:
        raise SystemExit(f"There is no submission in {folder}: they are looked for as STUDENT/ASSIGNMENT.ipynb.")
    return found


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def version(submission: Submission) -> str:
    """Changes when what the student handed in changes."""
    if submission.problem:
        return digest(submission.problem.encode())
    beside = files_beside(submission.path.parent)
    return digest(submission.path.read_bytes(), *(part for f in beside for part in (f.name.encode(), f.read_bytes())))
