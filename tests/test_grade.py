"""Grading: thirty-odd submissions, good, clumsy and hostile, each with its exact score, in one folder, on one run."""

import csv
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import grade
from tools.grading import course, ledger, marking, preflight, sandbox

ROOT = Path(__file__).parent.parent
NAME = "windows"
LIMITS = "--cell-seconds 2 --seconds 30 --memory-mb 600 --disk-mb 20 --output-kb 50 --processes 16".split()
alone = pytest.mark.skipif(bool(sandbox.missing()), reason=f"no isolation here: {sandbox.missing()}")

# The assignment ------------------------------------------------------------

WINDOWS = """def windows(x, k):
    \"\"\"The sums of k numbers in a row.\"\"\"
    ### BEGIN SOLUTION
    return np.convolve(x, np.ones(k), "valid")
    ### END SOLUTION"""
STRONGEST = """def strongest(x):
    ### BEGIN SOLUTION
    return max(x)
    ### END SOLUTION"""
TEST_WINDOWS = """assert windows([1, 2, 3], 2) is not None, "windows returns nothing"
np.testing.assert_allclose(windows([1, 2, 3], 2), [3, 5])
### BEGIN HIDDEN TESTS
np.testing.assert_allclose(windows([1, 0, 4, 4], 3), [5, 8], err_msg="a longer window")
### END HIDDEN TESTS"""
TEST_STRONGEST = """assert strongest([1, 5, 2]) == 5, "5 is the strongest of 1, 5, 2"
### BEGIN HIDDEN TESTS
assert strongest([-3, -1]) == -1, "not every number is above 0"
### END HIDDEN TESTS"""


def cell(make, name, source, points=None, solution=False):
    data = {"schema_version": 3, "grade_id": name, "grade": points is not None, "solution": solution, "task": False}
    data |= {"locked": not solution, "cell_type": "code" if make is new_code_cell else "markdown"}
    data |= {"points": points} if points is not None else {}
    return make(source, metadata={"nbgrader": data})


def source_notebook():
    """3 + 2 points by tests, 4 by hand."""
    return new_notebook(
        cells=[
            new_markdown_cell("# Windows"),
            cell(new_code_cell, "setup", "import numpy as np"),
            cell(new_code_cell, "windows", WINDOWS, solution=True),
            cell(new_code_cell, "test_windows", TEST_WINDOWS, points=3),
            new_markdown_cell("## The strongest"),
            cell(new_code_cell, "strongest", STRONGEST, solution=True),
            cell(new_code_cell, "test_strongest", TEST_STRONGEST, points=2),
            cell(new_markdown_cell, "why", "### BEGIN SOLUTION\nAs it is sure.\n### END SOLUTION", points=4, solution=True),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )


RIGHT = {
    "windows": 'def windows(x, k):\n    return np.convolve(x, np.ones(k), "valid")',
    "strongest": "def strongest(x):\n    return max(x)",
}
WRITTEN = {"why": "The strongest window tells whether the pattern is there at all."}


def released():
    return preflight.release(source_notebook())


def answer(**answers):
    """The students' notebook with these answers."""
    notebook = released()
    for name, text in answers.items():
        preflight.by_id(notebook)[name].source = text
    return notebook


def before(code, **answers):
    """Right answers, and a cell of the student's own before the first test."""
    notebook = answer(**RIGHT | answers)
    notebook.cells.insert(3, new_code_cell(code))
    return notebook


def changed(change, **answers):
    notebook = answer(**RIGHT | answers)
    change(notebook, preflight.by_id(notebook))
    return notebook


def stripped(notebook, cells):
    """Metadata gone, as when a notebook went through an editor that drops it; new ids, too."""
    for one in notebook.cells:
        one.metadata = nbformat.from_dict({})
        one.id = "new" + one.id


def at(notebook, name):
    return [preflight.grade_id(one) for one in notebook.cells].index(name)


def twice(name, text=None):
    def change(notebook, cells):
        copy = nbformat.from_dict(cells[name])
        copy.id, copy.source = "twin", text or copy.source
        notebook.cells.insert(at(notebook, name), copy)

    return change


# The submissions: what is handed in, its score without the written answer, and what the reasons must say, if any ------

DEAF = """while True:
    try:
        while True:
            pass
    except KeyboardInterrupt:
        pass"""
NO_ASSERTS = """import ast
class Drop(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()
get_ipython().ast_transformers.append(Drop())"""
DAEMON = """import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)  # {marker}"], start_new_session=True)"""
CONNECT = """import socket
try:
    socket.create_connection(("127.0.0.1", {port}), 2).close()
    print("CONNECTED")
except OSError as error:
    print("no way out", error)"""
DELETE = """import os, pathlib, shutil
for folder in ({submissions!r}, {source!r}, {into!r}, pathlib.Path.home(), "."):
    shutil.rmtree(folder, ignore_errors=True)"""
SEARCH = """import os
for folder, folders, files in os.walk("/", onerror=lambda error: None):
    folders[:] = [name for name in folders if name not in ("proc", "usr", "lib", "site-packages")]
    print(*["FOUND " + folder for file in files if file.endswith(".ipynb")])
try:
    print("FOUND", open({path!r}).read())
except OSError as error:
    print(type(error).__name__)"""
SPY = """import inspect
seen = []
def strongest(x):
    seen.append(inspect.getsource(inspect.currentframe().f_back))
    return max(x)"""
EXIT_IN_ANSWER = "import sys\ndef windows(x, k):\n    sys.exit(0)"


def submissions(places):
    """{student: (notebook or text, points by tests, a pattern of the reason why a person has to look)}"""
    return {
        "correct": (answer(**RIGHT, **WRITTEN), 5, "why: to be graded by hand"),
        "blank": (answer(), 0, None),
        "naive": (answer(windows="def windows(x, k):\n    return [3, 5]", strongest=RIGHT["strongest"]), 2, None),
        "wrong": (answer(windows="def windows(x, k):\n    return x", strongest="def strongest(x):\n    return 0"), 0, None),
        "half": (answer(windows=RIGHT["windows"]), 3, None),
        "edited_test": (changed(lambda n, c: c["test_windows"].update(source="pass"), windows="windows = 1"), 2, None),
        "easy_points": (changed(lambda n, c: c["test_strongest"].metadata.nbgrader.update(points=90)), 5, None),
        "test_twice": (changed(twice("test_windows")), 5, None),
        "answer_twice": (changed(twice("strongest", "def strongest(x):\n    return 7")), 5, "strongest: is there more than"),
        "blank_twice": (changed(twice("windows", preflight.by_id(released())["windows"].source)), 5, "windows: is there"),
        "no_test": (changed(lambda n, c: n.cells.remove(c["test_windows"])), 5, None),
        "no_test_wrong": (changed(lambda n, c: n.cells.remove(c["test_windows"]), windows="windows = len"), 2, None),
        "no_answer": (changed(lambda n, c: n.cells.remove(c["windows"])), 2, "windows: the answer's cell was not there"),
        "no_setup": (changed(lambda n, c: n.cells.remove(c["setup"])), 5, None),
        "stripped": (changed(stripped, **WRITTEN), 5, "why: to be graded by hand"),
        "stripped_wrong": (changed(stripped, windows="def windows(x, k):\n    return x"), 2, None),
        "to_markdown": (changed(lambda n, c: preflight.change_kind(c["test_strongest"], "markdown")), 5, None),
        "moved": (changed(lambda n, c: n.cells.insert(0, n.cells.pop(at(n, "test_strongest")))), 3, "another order"),
        "syntax": (answer(windows="def windows(x, k:\n    return", strongest=RIGHT["strongest"]), 2, None),
        "sys_exit": (answer(windows=EXIT_IN_ANSWER, strongest=RIGHT["strongest"]), 2, None),
        "os_exit": (answer(windows=RIGHT["windows"], strongest="import os\nos._exit(0)"), 3, "strongest: .* ended itself"),
        "loop": (answer(windows="while True: pass", strongest=RIGHT["strongest"]), 2, "windows: stopped after 2 s"),
        "deaf_loop": (answer(windows=RIGHT["windows"], strongest=DEAF), 3, "strongest: .* did not stop after 2 s"),
        "memory": (answer(windows="x = np.ones(10**10)", strongest=RIGHT["strongest"]), 2, None),
        "processes": (before("import os\nwhile True: os.fork()"), 0, "used more than|started more than"),
        "prints": (before("while True: print('x' * 1000)"), 5, "stopped after 2 s"),
        "disk": (before("for i in range(99): open(f'f{i}', 'wb').write(bytes(10**6))"), 5, None),
        "network": (before(CONNECT.format(**places)), 5, None),
        "deletes": (before(DELETE.format(**places)), 5, None),
        "searches": (before(SEARCH.format(**places)), 5, None),
        "spies": (spying(), 5, "repeats hidden tests"),
        "daemon": (before(DAEMON.format(**places)), 5, None),
        "patched_numpy": (before("np.testing.assert_allclose = lambda *a, **k: None", windows="windows = len"), 0, "replaced"),
        "no_asserts": (before(NO_ASSERTS, strongest="strongest = len"), 0, "has disabled checks"),
        "script": (before("from IPython.display import HTML\nHTML('<script>alert(1)</script>')"), 5, None),
        "warns": (answer(**RIGHT | {"strongest": "import warnings\n" + WARNS}), 5, None),
        "not_a_notebook": ("These are my answers.", 0, "not a notebook"),
        "empty": ("", 0, "the file is empty"),
    }


WARNS = "def strongest(x):\n    warnings.warn('slow')\n    return max(x)"


def spying():
    """Its function reads the test that calls it, and a later cell prints that."""
    notebook = answer(**RIGHT | {"strongest": SPY})
    notebook.cells.append(new_code_cell("print(*seen)"))
    return notebook


def hand_in(folder, student, notebook, name=NAME):
    path = folder / student / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(notebook if isinstance(notebook, str) else nbformat.writes(notebook), encoding="utf-8")
    return path


def make_source(folder):
    (folder / NAME).mkdir(parents=True)
    (folder / NAME / f"{NAME}.ipynb").write_text(nbformat.writes(source_notebook()), encoding="utf-8")
    return folder


def run(*arguments):
    command = [sys.executable, "-m", "tools.grade", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Graded:
    """One run over all of them, and where it left what."""

    def __init__(self, folder):
        self.folder, self.into = folder / "submissions", folder / "grades"
        self.source = make_source(folder / "source")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.places = {"port": self.listener.getsockname()[1], "marker": f"daemon{self.listener.getsockname()[1]}"}
        self.places |= {"submissions": str(self.folder), "source": str(self.source), "into": str(self.into)}
        self.places["path"] = str(self.source / NAME / f"{NAME}.ipynb")
        self.expected = submissions(self.places)
        for student, (notebook, *_) in self.expected.items():
            hand_in(self.folder, student, notebook)
        hand_in(self.folder, "wrong_name", answer(**RIGHT), name="windows (1)")
        (self.folder / "link").mkdir()
        (self.folder / "link" / f"{NAME}.ipynb").symlink_to(self.places["path"])
        self.arguments = [self.folder, "--into", self.into, "--source", self.source, *LIMITS]
        self.done = run(*self.arguments)
        self.first_grades = self.grades()

    def grades(self):
        return {row["student"]: row for row in rows(self.into / "grades.csv")}

    def page(self, student):
        return (self.into / "feedback" / student / f"{NAME}.html").read_text(encoding="utf-8")

    def lines(self, done):
        return [line for line in done.stdout.splitlines() if re.match(r"\[ *\d+/\d+\]", line)]


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    graded = Graded(tmp_path_factory.mktemp("grade"))
    yield graded
    graded.listener.close()


STUDENTS = list(submissions({"port": 0, "submissions": "", "source": "", "into": "", "path": "", "marker": ""}))


def test_all_are_graded(graded):
    assert graded.done.returncode == 0, graded.done.stderr
    assert len(STUDENTS) >= 30
    assert set(graded.first_grades) == {*STUDENTS, "wrong_name", "link"}
    assert len(graded.lines(graded.done)) == len(STUDENTS) + 2


@pytest.mark.parametrize("student", STUDENTS)
def test_each_gets_its_score_its_feedback_and_its_word(graded, student):
    _, points, reason = graded.expected[student]
    row = graded.first_grades[student]
    assert float(row["score"]) == points, row
    assert float(row["max_score"]) == 9
    assert (row["needs_human"] == "yes") == (reason is not None), row
    assert re.search(reason or "^$", row["why"]), row
    page = graded.page(student)
    assert f"{points} of 9 points" in page
    for line in ("a longer window", "[-3, -1]"):  # of the hidden tests
        assert line not in page or line in dict(rows_of(graded, student)).values()


def rows_of(graded, student):
    return [(row["cell"], row["message"]) for row in rows(graded.into / "cells.csv") if row["student"] == student]
