"""Grading: thirty-odd submissions, good, clumsy and hostile, each with its exact score, in one folder, on one run."""

import ast
import base64
import contextlib
import csv
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import zmq
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import coursework, grade
from tools.grading import (
    asking,
    course,
    execution,
    feedback,
    handed_in,
    ledger,
    marking,
    preflight,
    reports,
    sandbox,
    sentences,
    tables,
)
from tools.grading.inside import wire

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
WHY = "### BEGIN SOLUTION\nIt tells that the pattern is there.\n### END SOLUTION"
TEST_WINDOWS = """assert windows([1, 2, 3], 2) is not None, "windows returns nothing"
np.testing.assert_allclose(windows([1, 2, 3], 2), [3, 5])
### BEGIN HIDDEN TESTS
x = [1, 0, 4, 4]
np.testing.assert_allclose(windows(x, 3), [sum(x[:3]), sum(x[1:])], err_msg="a longer window")
### END HIDDEN TESTS"""
TEST_STRONGEST = """assert strongest([1, 5, 2]) == 5, "5 is the strongest of 1, 5, 2"
### BEGIN HIDDEN TESTS
assert strongest([-3, -1]) == -1, "not every number is above 0"
assert all(map(lambda x: strongest(x) == max(x), ([-3, -1], [7, 2])))
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
            cell(
                new_markdown_cell,
                "why",
                "### BEGIN SOLUTION\nAs it is sure.\n### END SOLUTION",
                points=4,
                solution=True,
            ),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )


RIGHT = {
    "windows": 'def windows(x, k):\n    return np.convolve(x, np.ones(k), "valid")',
    "strongest": "def strongest(x):\n    return max(x)",
}
WRITTEN = {"why": "The strongest window tells whether the pattern is there at all."}


def released():
    return coursework.release(source_notebook())


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
    print(*["FOUND " + "/" + folder for file in files if file.endswith(".ipynb")])
try:
    print("FOUND", open({path!r}).read())
except OSError as error:
    print(type(error).__name__)"""
SPY = """import inspect
seen = []
def strongest(x):
    seen.append(inspect.getsource(inspect.currentframe().f_back))
    return max(x)"""
# Each begins with answers that are worth nothing, and has to stay there.
NOTHING = {
    "windows": "def windows(x, k):\n    return np.zeros(len(x) - k + 1)",
    "strongest": "if 'strongest' not in globals():\n    def strongest(x):\n        return 0",
}
ZEROS = """class Equal(np.ndarray):
    __eq__ = __ne__ = __lt__ = __le__ = lambda *_: True
    __array_ufunc__ = lambda *_, **__: True
    shape = property(lambda self: Equal())"""
TRICKS = {
    "nothing": "pass",
    "code_replaced": "np.testing.assert_allclose.__code__ = (lambda *a, **k: None).__code__",
    "partial": "import functools\nnp.testing.assert_allclose = functools.partial(lambda *a, **k: None)",
    "numpy_testing": "np.testing.assert_allclose = lambda *a, **k: None",
    "exec_in_module": "exec('def assert_allclose(*a, **k): pass', vars(np.testing))",
    "check_close": "from companion import checks\nchecks.check_close.__code__ = (lambda *a, **k: None).__code__",
    "no_zip": "zip = lambda *a, **k: []\nall = any = lambda *_: True",
    "no_tests": """def empty(lines):
    return [] if any("assert" in line for line in lines) else lines
get_ipython().input_transformers_cleanup.append(empty)""",
    "no_ast": NO_ASSERTS,
    "equal": ZEROS + "\nwindows = lambda x, k: np.zeros(2).view(Equal)\nstrongest = lambda x: Equal(1)",
    "equal_object": """class Equal:
    __eq__ = __gt__ = __lt__ = lambda *_: True
    __array__ = lambda *_, **__: 1 / 0
windows = strongest = lambda *_: Equal()""",
    "equal_float": """class Equal(float):
    __eq__ = lambda *_: True
strongest = lambda x: Equal(0)""",
    "equal_dtype": "windows = lambda x, k: np.array([Ellipsis, None], dtype=object)",
    "traceback": "get_ipython().showtraceback = lambda *a, **k: None",
    "harness": """import sys
for name, module in list(sys.modules.items()):
    if name.endswith(".wire"):
        module.pack = lambda *a: b'["list", "value", true]\\0'""",
    "gibberish": """import sys
for name, module in list(sys.modules.items()):
    if name.endswith(".wire"):
        module.pack = lambda *a: b'["list", "value"]\\0'""",
    "replies": """import multiprocessing.connection as c
c.Connection.send_bytes = lambda self, *a: None""",
    "floods": """import multiprocessing.connection as c
old = c.Connection.send_bytes
c.Connection.send_bytes = lambda self, *a: old(self, b'[' * 10**6)""",
    "changes_arguments": """def windows(x, k):
    if len(x) == 3:
        return [3, 5]
    x[:] = [0] * len(x)
    return [0] * (len(x) - k + 1)""",
    "stops_iterations": """def strongest(x):
    if min(x) > 0 and len(x) == 3:
        return 5
    if x[0] < 0:
        strongest.seen = strongest.seen + 1
        if strongest.seen == 1:
            return -1
    raise StopIteration
strongest.seen = 0""",
    "takes_places": """import pathlib, sys
(inside,) = [module for name, module in sys.modules.items() if name.endswith(".answers")]
for number in range(9):
    (pathlib.Path(inside.__file__).parents[1] / f"t{number}").mkdir()""",
    "asks": """import sys, multiprocessing.connection as c
old = c.Connection.send_bytes
def send(self, *a):
    if self.readable:
        old(self, b'["list", "ask", 0, "__class__", ["tuple"], ["dict"]]\\0')
    return old(self, *a)
c.Connection.send_bytes = send""",
    "frames": """import gc, inspect, sys
def windows(x, k):
    frame = sys._getframe()
    while frame:
        for value in frame.f_locals.values():
            if isinstance(value, dict) and "expected" in value:
                return value["expected"]
        frame = frame.f_back""",
}
FLAGGED = {"replies": "neither answered nor hung up"}
# Names that a student may choose, and looks that a student may take.
HONEST = {
    "sum": "sum = 0\nzip = print\nlen_ = len",
    "max": "values = sorted([3, 1])\nmax = values[0]\nlist = dict = str = type = id = input = len = abs = print = 1",
    "np": "np = 3",
    "random": "np.random.seed(0)\nimport random\nrandom.seed(0)\nimport os\nos.chdir('/')",
    "strict": "import warnings\nwarnings.simplefilter('error')\nnp.seterr(all='raise')",
    "silent": "import os, sys\nsys.stdout = sys.stderr = open(os.devnull, 'w')\nsys.path.clear()",
    "np_relu": "np.relu = relu = lambda x: np.maximum(x, 0)",
    "looks": "import inspect\nprint(inspect.getsource(windows))\nprint(In[1:])",
    "imports": "import numpy as np\nimport numpy\nassert_allclose = np.testing.assert_allclose",
    "settings": "%precision 3\n%xmode Plain\nget_ipython().ast_node_interactivity = 'all'\n%time 1\n!pip list\nexit()",
    "names": "given = answers = referee = kernel = serve = wire = remote = expected = found = check_close = None",
}
WARNS = "import warnings\ndef strongest(x):\n    warnings.warn('slow')\n    return max(x)"
EXIT_IN_ANSWER = "import sys\ndef windows(x, k):\n    sys.exit(0)"


def submissions(places):
    """{student: (notebook or text, points by tests, a pattern of the reason why a person has to look)}"""
    return {
        "correct": (answer(**RIGHT, **WRITTEN), 5, "why: to be graded by hand"),
        "blank": (answer(), 0, None),
        "naive": (answer(windows="def windows(x, k):\n    return [3, 5]", strongest=RIGHT["strongest"]), 2, None),
        "wrong": (
            answer(windows="def windows(x, k):\n    return x", strongest="def strongest(x):\n    return 0"),
            0,
            None,
        ),
        "edited_test": (changed(lambda n, c: c["test_windows"].update(source="pass"), windows="windows = 1"), 2, None),
        "easy_points": (changed(lambda n, c: c["test_strongest"].metadata.nbgrader.update(points=90)), 5, None),
        "test_twice": (changed(twice("test_windows")), 5, None),
        "answer_twice": (changed(twice("strongest", "def strongest(x):\n    return 7")), 5, "strongest: is there more"),
        "no_test": (changed(lambda n, c: n.cells.remove(c["test_windows"])), 5, None),
        "no_answer": (
            changed(lambda n, c: n.cells.remove(c["windows"])),
            2,
            "windows: the answer's cell was not there",
        ),
        "no_setup": (changed(lambda n, c: n.cells.remove(c["setup"])), 5, None),
        "stripped": (changed(stripped, **WRITTEN), 5, "why: to be graded by hand"),
        "to_markdown": (changed(lambda n, c: preflight.change_kind(c["test_strongest"], "markdown")), 5, None),
        "moved": (changed(lambda n, c: n.cells.insert(0, n.cells.pop(at(n, "test_strongest")))), 3, "another order"),
        "syntax": (answer(windows="def windows(x, k:\n    return", strongest=RIGHT["strongest"]), 2, None),
        "sys_exit": (answer(windows=EXIT_IN_ANSWER, strongest=RIGHT["strongest"]), 2, None),
        "os_exit": (
            answer(windows=RIGHT["windows"], strongest="import os\nos._exit(0)"),
            3,
            "strongest: .* ended itself",
        ),
        "loop": (answer(windows="while True: pass", strongest=RIGHT["strongest"]), 2, "windows: stopped after 2 s"),
        "deaf_loop": (answer(windows=RIGHT["windows"], strongest=DEAF), 3, "strongest: .* did not stop after 2 s"),
        "memory": (answer(windows="x = np.ones(10**10)", strongest=RIGHT["strongest"]), 2, None),
        "processes": (
            before("import os\nfor _ in range(8): os.fork()"),
            0,  # 256: without end they could outrun the guard
            "used more than|started more than",
        ),
        "prints": (before("while True: print('x' * 1000)"), 5, "stopped after 2 s"),
        "disk": (before("for i in range(99): open(f'f{i}', 'wb').write(bytes(10**6))"), 5, None),
        "network": (before(CONNECT.format(**places)), 5, None),
        "deletes": (before(DELETE.format(**places)), 5, None),
        "searches": (before(SEARCH.format(**places)), 5, None),
        "spies": (spying(), 5, None),
        "daemon": (before(DAEMON.format(**places)), 5, None),
        "no_asserts": (before(NO_ASSERTS, strongest="strongest = len"), 3, None),
        **{name: (before(code, **NOTHING), 0, FLAGGED.get(name)) for name, code in TRICKS.items()},
        **{name: (before(code), 5, None) for name, code in HONEST.items()},
        "script": (before("from IPython.display import HTML\nHTML('<script>alert(1)</script>')"), 5, None),
        "warns": (answer(**RIGHT | {"strongest": WARNS}), 5, None),
        "not_a_notebook": ("These are my answers.", 0, "not a notebook"),
        "empty": ("", 0, "the file is empty"),
    }


def spying():
    """Its functions keep what calls them, and what they are called with; a later cell, and every error, tells it."""
    notebook = answer(**RIGHT | {"strongest": SPY})
    show = """import base64, linecache
text = repr([seen, list(linecache.cache.values()), open(inspect.getsourcefile(strongest)).read()
             if __import__("os").path.exists(inspect.getsourcefile(strongest)) else ""])
print(base64.b64encode(text.encode()).decode())
print(text[::-1])"""
    notebook.cells.append(new_code_cell(show))
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
        hand_in(self.folder, "wrong_name", answer(**RIGHT), name="windows_final")
        (self.folder / "link").mkdir()
        (self.folder / "link" / f"{NAME}.ipynb").symlink_to(self.places["path"])
        self.arguments = [self.folder, "--into", self.into, "--source", self.source, *LIMITS]
        self.done = run(*self.arguments)
        assert self.done.returncode == 0, self.done.stderr
        self.first_grades = self.grades()

    def grades(self):
        return {row["student"]: row for row in rows(self.into / "grades.csv")}

    def page(self, student):
        return (self.into / "feedback" / student / f"{NAME}.html").read_text(encoding="utf-8")

    def lines(self, text):
        return [line for line in text.splitlines() if re.match(r"\[ *\d+/\d+\]", line)]

    def again(self, capsys):
        """The lines of those that one more run graded."""
        assert grade.main([str(argument) for argument in self.arguments]) == 0
        lines = self.lines(capsys.readouterr().out)
        assert len(lines) == len(self.first_grades)
        return [line for line in lines if "as before" not in line]


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
    assert len(graded.lines(graded.done.stdout)) == len(STUDENTS) + 2


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
    text = re.sub("<[^>]+>", "", page) + (graded.into / "records" / student / f"{NAME}.ipynb.json").read_text()
    text += "".join(decoded(word) for word in re.findall(r"[\w+/=]{24,}", text))
    for secret in ("[1, 0, 4, 4]", "[-3, -1]", "sum(x[1:])"):  # of the hidden tests
        assert secret not in text and secret[::-1] not in text


def decoded(word):
    try:
        return base64.b64decode(word + "=" * (-len(word) % 4)).decode("utf-8", "replace")
    except ValueError:
        return ""


def test_a_name_that_is_none_and_a_link_are_told(graded):
    assert "the names are windows" in graded.first_grades["wrong_name"]["why"]
    assert graded.first_grades["link"]["score"] == "0" and "a link" in graded.first_grades["link"]["why"]


@pytest.mark.parametrize(
    "student, said",
    [
        ("edited_test", "test_windows: was edited"),
        ("easy_points", "test_strongest: had other grading data"),
        ("test_twice", "test_windows: was there more than once"),
        ("no_test", "test_windows: was not there"),
        ("no_setup", "setup: was not there"),
        ("stripped", "windows: had lost its grading data"),
        ("to_markdown", "test_strongest: was turned into markdown"),
        ("correct", None),
    ],
)
def test_what_was_mended_is_told(graded, student, said):
    assert said in graded.page(student) if said else "About your notebook" not in graded.page(student)


def test_outputs_are_heard_however_late_the_connection(monkeypatch):
    def late(client):
        socket = client.context.socket(zmq.SUB)
        socket.linger, socket.reconnect_ivl = 0, 1500  # of the first try, when there is no kernel yet
        socket.subscribe(b"")
        socket.connect(client._make_url("iopub"))
        return socket

    monkeypatch.setattr(execution.BlockingKernelClient, "connect_iopub", late)
    with execution.Kernel(sandbox.Limits(), None, isolated=False) as kernel:
        assert kernel.run("print('here')", 10).outputs[0].text == "here\n"
        assert not kernel.cut


def test_processes_that_a_quick_cell_leaves_behind_are_seen():
    code = "import subprocess, sys\nfor _ in range(4): subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1)"
    with execution.Kernel(sandbox.Limits(processes=4), None, isolated=False) as kernel:
        assert kernel.run("pass", 10).status == "ok"
        kernel.guard.deadline = kernel.guard.looked = float("inf")  # nobody looks while the cell runs
        assert "started more than 4 processes" in kernel.run(code, 10).message
        assert kernel.run("pass", 10).status == "not run"


def test_each_test_cell_has_its_outcome(graded):
    found = {(row["student"], row["cell"]): row for row in rows(graded.into / "cells.csv")}
    assert found["correct", "test_windows"]["outcome"] == "ok"
    assert found["correct", "why"]["outcome"] == "by hand" and found["correct", "why"]["score"] == ""
    assert found["blank", "test_windows"]["message"].startswith("NotImplementedError")
    assert found["blank", "why"]["outcome"] == "blank"
    assert "a longer window" in found["naive", "test_windows"]["message"]
    assert found["os_exit", "test_strongest"]["outcome"] == "not run"
    assert found["sys_exit", "test_windows"]["message"].startswith("RuntimeError: windows raised SystemExit in line 3")
    assert "MemoryError" in (graded.page("memory") if sys.platform == "linux" else "MemoryError")


def test_output_is_cut_and_scripts_do_not_run(graded):
    assert "The rest of the output was cut" in graded.page("prints")
    assert max(path.stat().st_size for path in graded.into.rglob("*.*")) < 200_000
    assert "<script" not in graded.page("script") and "alert(1)" in graded.page("script")
    assert "default-src &#x27;none&#x27;" in graded.page("script") or "default-src 'none'" in graded.page("script")


def test_what_a_converter_cannot_show_in_time_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(feedback, "PATIENCE", 1)
    deep = nbformat.v4.new_output("display_data", data={"text/html": "<div>" * 100_000})
    notebook = new_notebook(cells=[new_code_cell("1", outputs=[deep])])
    record = {"student": "a", "assignment": NAME, "cells": [], "notes": [], "max_score": 1.0, "notebook": notebook}
    ledger.write_page(tmp_path, record | {"key": "", "file": "windows.ipynb"}, {}, 0)
    page = (tmp_path / "feedback" / "a" / "windows.html").read_text()
    assert "cannot be shown (TimeoutError)" in page and "0 of 1 points" in page


def test_nothing_of_a_run_is_left(graded):
    commands = []
    for process in psutil.process_iter():
        try:
            commands.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    assert commands and not any(graded.places["marker"] in command for command in commands)


@alone
def test_no_network_no_deleted_file_no_hidden_test_in_sight(graded):
    assert "no way out" in graded.page("network")
    graded.listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        graded.listener.accept()
    assert {path.name for path in graded.folder.iterdir()} == {*graded.expected, "wrong_name", "link"}
    assert Path(graded.places["path"]).is_file() and (graded.into / "records").is_dir()
    assert (
        "FileNotFoundError" in graded.page("searches") and "FOUND" not in graded.page("searches").split("</pre>", 3)[3]
    )


# The second run ------------------------------------------------------------


def test_a_second_run_grades_what_changed_and_keeps_what_people_gave(graded, capsys):
    hand_in(graded.folder, "blank", answer(**RIGHT))
    text = (graded.into / "manual.csv").read_text(encoding="utf-8")
    assert "correct,windows,why,4,,," in text
    text = text.replace("correct,windows,why,4,,,", "correct,windows,why,4,2.5,=Nearly,")
    (graded.into / "manual.csv").write_text(text, encoding="utf-8")
    lines = graded.again(capsys)
    assert len(lines) == 1 and " blank " in lines[0]
    grades = graded.grades()
    assert grades["blank"]["score"] == "5"
    assert grades["correct"]["score"] == "7.5" and grades["correct"]["needs_human"] == "no"
    assert "7.5 of 9 points" in graded.page("correct") and "=Nearly" in graded.page("correct")
    same = [name for name in grades if name not in ("blank", "correct")]
    assert all(grades[name] == graded.first_grades[name] for name in same)
    hand_in(graded.folder, "correct", answer(**RIGHT, why="I changed my mind."))
    lines = graded.again(capsys)
    assert len(lines) == 1 and " correct " in lines[0]
    row = graded.grades()["correct"]
    assert row["score"] == "7.5" and "given to an earlier version" in row["why"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Three submissions, a stand-in for the run itself, and the command's arguments."""
    for student in ("a", "b", "c"):
        hand_in(tmp_path / "in", student, answer(**RIGHT))
    ran = []

    def stand_in(submission, *_):
        ran.append(submission.student)
        if submission.student == stand_in.stop_at:
            raise KeyboardInterrupt
        cells = [{"cell": "test_windows", "score": 3.0, "max_score": 3.0, "status": "ok", "message": ""}]
        record = {"student": submission.student, "assignment": NAME, "status": "graded", "cells": cells}
        return record | {"notes": [], "human": [], "max_score": 3.0, "notebook": None, "late": submission.late}

    stand_in.stop_at = None
    monkeypatch.setattr(marking, "grade", stand_in)
    arguments = [str(tmp_path / "in"), "--into", str(tmp_path / "out"), "--isolation", "off"]
    return [*arguments, "--source", str(make_source(tmp_path / "source"))], ran, stand_in


def test_an_interrupted_run_goes_on(small, tmp_path, capsys):
    arguments, ran, stand_in = small
    stand_in.stop_at = "b"
    assert grade.main(arguments) == 130
    assert "the same command goes on" in capsys.readouterr().out
    assert [row["student"] for row in rows(tmp_path / "out" / "grades.csv")] == ["a"]
    assert "this is not all" in (tmp_path / "out" / "needs_a_human.md").read_text(encoding="utf-8")
    stand_in.stop_at = None
    assert grade.main(arguments) == 0
    assert ran == ["a", "b", "b", "c"]
    assert [row["score"] for row in rows(tmp_path / "out" / "grades.csv")] == ["3", "3", "3"]
    assert not list((tmp_path / "out").rglob("*.new"))


def test_a_changed_assignment_or_limit_grades_all_again(small, tmp_path):
    arguments, ran, _ = small
    grade.main(arguments)
    grade.main([*arguments, "--cell-seconds", "7"])
    assert len(ran) == 6
    source = tmp_path / "source" / NAME / f"{NAME}.ipynb"
    source.write_text(source.read_text(encoding="utf-8").replace("a longer window", "longer"), encoding="utf-8")
    grade.main([*arguments, "--cell-seconds", "7"])
    assert len(ran) == 9


# The course's own assignments ------------------------------------------------------------


def test_the_first_assignment_solved_has_all_points_and_blank_has_none(tmp_path):
    name = "1_convolution_by_hand"
    coursework.build(into=tmp_path / "release")
    for student, folder in {"solved": ROOT / coursework.SOURCE, "blank": tmp_path / "release"}.items():
        hand_in(tmp_path / "in", student, (folder / name / f"{name}.ipynb").read_text(encoding="utf-8"), name)
    done = run(tmp_path / "in", "--into", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = {row["student"]: row for row in rows(tmp_path / "out" / "grades.csv")}
    assert found["solved"]["score"] == found["solved"]["max_score"] != "0"
    assert found["blank"]["score"] == "0" and found["blank"]["max_score"] == found["solved"]["max_score"]
    assert found["solved"]["status"] == found["blank"]["status"] == "graded"
    page = (tmp_path / "out" / "feedback" / "blank" / f"{name}.html").read_text(encoding="utf-8")
    assert "Not solved yet" in page and "HIDDEN TESTS" not in page and "SOLUTION" not in page


@pytest.mark.parametrize("path", coursework.sources(), ids=lambda path: path.stem)
def test_every_assignment_can_be_found_again_when_its_grading_data_is_gone(path):
    """Solved by the source's own solutions and stripped: each cell is attached to the id it had."""
    source = preflight.read(path.read_text(encoding="utf-8"))
    released = coursework.release(source)
    solved = nbformat.from_dict(source)
    for one, blank in zip(solved.cells, released.cells, strict=True):
        one.source = one.source if preflight.grade_id(one) in answers(source) else blank.source
    expected = [(preflight.grade_id(one), one.source) for one in solved.cells if preflight.grade_id(one)]
    stripped(solved, {})
    mended, actions = preflight.repair(solved, source, released)
    found = {preflight.grade_id(one): one.source for one in mended.cells if preflight.grade_id(one)}
    assert [name for name, text in expected if name in answers(source) and found[name] != text] == []
    assert list(found) == [name for name, _ in expected]
    assert not [str(action) for action in actions if action.flag]


def answers(notebook):
    cells = preflight.by_id(notebook).items()
    return [name for name, one in cells if one.metadata.nbgrader.solution]


# Bad input ------------------------------------------------------------


def sentence(arguments):
    with pytest.raises(SystemExit) as stopped:
        grade.main([str(argument) for argument in arguments])
    return str(stopped.value)


def test_bad_input_is_told_in_a_sentence(small, tmp_path, monkeypatch):
    arguments, ran, _ = small
    options = arguments[1:]
    (tmp_path / "empty").mkdir()
    assert "There is no folder" in sentence([tmp_path / "nowhere", *options])
    assert "There is no submission in" in sentence([tmp_path / "empty", *options])
    assert "There is no assignment in" in sentence([*arguments[:-1], tmp_path / "empty"])
    assert "Limits are above 0: memory_mb" in sentence([*arguments, "--memory-mb", "0"])
    monkeypatch.setattr(sandbox, "missing", lambda: "no namespaces")
    assert "isolation cannot be had here: no namespaces" in sentence([*arguments, "--isolation", "on"])
    manual = tmp_path / "out" / "manual.csv"
    manual.parent.mkdir()
    manual.write_text(",".join(ledger.MANUAL) + "\na,windows,why,4,five,,\n", encoding="utf-8")
    assert "line 2: manual_score is 'five', and a number from 0 to 4 is right" in sentence(arguments)
    assert "five" in manual.read_text(encoding="utf-8")
    assert ran == []


def test_a_broken_assignment_is_told_before_work_begins(small, tmp_path):
    arguments, ran, _ = small
    notebook = source_notebook()
    notebook.cells[3].source = notebook.cells[3].source.replace("### END HIDDEN TESTS", "")
    path = tmp_path / "source" / NAME / f"{NAME}.ipynb"
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    assert "windows cannot be used: windows, cell 4: 'BEGIN HIDDEN TESTS' is never closed" in sentence(arguments)
    notebook = source_notebook()
    notebook.cells.append(nbformat.from_dict({**notebook.cells[3], "id": "twin"}))
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    assert "has the grade_id 'test_windows', which cell 4 has already" in sentence(arguments)
    assert ran == []


# One submission at a time, the odd cases ------------------------------------------------------------


def grade_one(tmp_path, notebook, isolated, **limits):
    assignments = course.load_assignments(make_source(tmp_path / "source"))
    submission = handed_in.Submission("a", hand_in(tmp_path / "in", "a", notebook))
    limits = sandbox.Limits(**{"cell_seconds": 2, "seconds": 30, "memory_mb": 600, "disk_mb": 20} | limits)
    return marking.grade(submission, assignments, limits, isolated)


def test_a_closed_folder_is_removed_and_nothing_that_a_link_shows(tmp_path):
    inside, outside = tmp_path / "in" / "a" / "b", tmp_path / "out"
    inside.mkdir(parents=True), outside.mkdir(mode=0o755)
    (tmp_path / "in" / "link").symlink_to(outside)
    inside.parent.chmod(0)
    execution.remove(tmp_path / "in")
    assert not (tmp_path / "in").exists() and outside.stat().st_mode & 0o777 == 0o755


def test_without_isolation_the_limits_hold_all_the_same(tmp_path):
    fill = f"import os\ndata = os.urandom(2 * 10**8)\nos.fork(), os.fork()\n{DEAF}"  # each for itself has enough
    record = grade_one(tmp_path, before(fill), isolated=False, cell_seconds=10)
    assert ledger.automatic(record) == 0
    assert re.search("used more than 600 MB", record["human"][0])


def test_without_isolation_a_right_answer_has_its_points(tmp_path):
    secret = "import os\nprint(sorted(os.environ), os.getcwd())\nopen('mine', 'w').close()"
    record = grade_one(tmp_path, before(secret), isolated=False)
    assert ledger.automatic(record) == 5 and record["human"] == []
    assert "PYTEST_CURRENT_TEST" not in json.dumps(record["notebook"])
    assert sorted(path.name for path in (tmp_path / "in" / "a").iterdir()) == [f"{NAME}.ipynb"]


def test_a_number_at_the_end_of_a_test_is_partial_credit_and_nothing_before_it_counts():
    ending = marking.Ending("ok", outputs=[result("9"), result("1.5")])
    test = preflight.by_id(source_notebook())["test_windows"]
    assert marking.points(test, ending) == 1.5
    ending.status = "error"
    assert marking.points(test, ending) == 0


def result(text):
    return nbformat.v4.new_output("execute_result", data={"text/plain": text}, execution_count=1)


def test_what_goes_wrong_in_one_submission_stays_there(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "repair", lambda *_: 1 / 0)
    record = grade_one(tmp_path, answer(), isolated=False)
    assert record["status"] == "failed" and "ZeroDivisionError" in record["human"][0]


def test_what_failed_on_our_side_is_tried_again(small, monkeypatch):
    arguments, ran, stand_in = small
    monkeypatch.setattr(marking, "grade", lambda *args: stand_in(*args) | {"status": "failed"})
    grade.main(arguments)
    monkeypatch.setattr(marking, "grade", stand_in)
    grade.main(arguments)
    grade.main(arguments)
    assert len(ran) == 6


def test_a_spreadsheet_runs_nothing_that_a_student_wrote():
    assert tables.table(["message"], [["=HYPERLINK(1)"]]) == "message\n'=HYPERLINK(1)\n"
    assert tables.table(["a"], [["-1+cmd|' /C calc'!A0"], ["-"]]) == "a\n'-1+cmd|' /C calc'!A0\n-\n"


def test_a_file_that_is_no_table_is_told_in_a_sentence(tmp_path):
    (tmp_path / "manual.csv").write_text('a,b\n"' + "x" * 200_000)
    with pytest.raises(ValueError, match=r"manual\.csv is not a table: field larger"):
        ledger.read_manual(tmp_path)


# Files, as they come ------------------------------------------------------------


def found_in(folder, **options):
    found = handed_in.find_submissions(folder, [NAME, "1_other"], **options)
    return {(s.student, s.assignment): (s.problem, s.path.name) for s in found}


@pytest.mark.parametrize(
    "name",
    [
        "windows.IPYNB",
        "windows (1).ipynb",
        "Copy of windows.ipynb",
        "Copy of Copy of windows.ipynb",
        "windows-Copy1.ipynb",
        "windows - Copy.ipynb",
        "windows - Copy (2).ipynb",
        "windows-2.ipynb",
        "Windows.ipynb",
        "windows/windows.ipynb",
        "windows/windows (3).ipynb",
    ],
)
def test_a_name_that_software_changed_is_understood(tmp_path, name):
    path = tmp_path / "a" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert found_in(tmp_path) == {("a", NAME): ("", path.name)}


def test_nobody_has_two_rows_for_one_assignment(tmp_path):
    """Whatever else has the assignment's name: in another folder, in capitals, as a PDF, handed in again."""
    hand_in(tmp_path, "a", "{}"), hand_in(tmp_path, "a", "{}", "windows/windows"), hand_in(tmp_path, "b", "{}")
    for name in ("a/windows.IPYNB", "b/windows.pdf", "c_1_456_windows.ipynb", "c_1_789_windows-1.ipynb"):
        (tmp_path / name).write_text("{}")
    found = handed_in.find_submissions(tmp_path, [NAME])
    counts = [(s.student, s.path.name) for s in found if s.assignment == NAME]
    assert counts == [("a", "windows.ipynb"), ("b", "windows.ipynb"), ("c_1", "c_1_789_windows-1.ipynb")]
    assert not any(s.problem for s in found if s.assignment == NAME) and len(found) == 6
    assert len({(s.student, s.file) for s in found}) == 6


def test_a_file_that_cannot_be_read_stops_nothing(tmp_path, monkeypatch):
    closed, huge = hand_in(tmp_path, "closed", "{}"), hand_in(tmp_path, "huge", "{}")
    os.truncate(huge, 10**12)
    hand_in(tmp_path, "no_folder", "{}")
    access, iterdir = os.access, Path.iterdir

    def listed(folder):
        if folder.name == "no_folder":
            raise PermissionError(folder)
        return iterdir(folder)

    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))
    monkeypatch.setattr(Path, "iterdir", listed)
    found = {s.student: s for s in handed_in.find_submissions(tmp_path, [NAME])}
    assert "may not be read" in found["closed"].problem and "larger than 20 MB" in found["huge"].problem
    assert found["no_folder"].problem == "the folder is empty" and all(map(handed_in.version, found.values()))


def test_what_desktops_leave_in_a_folder_is_nobodys_work(tmp_path):
    for name in ("__MACOSX/._a", "a/.ipynb_checkpoints/windows-checkpoint.ipynb", "a/._windows.ipynb", ".DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "Jo Poe_7_assignsubmission_onlinetext").mkdir()
    hand_in(tmp_path, "a", "{}"), hand_in(tmp_path, "Jo Poe_7_assignsubmission_file", "{}")
    assert found_in(tmp_path) == {(who, NAME): ("", "windows.ipynb") for who in ("a", "Jo Poe_7")}


def test_of_two_files_one_counts_and_the_other_says_so(tmp_path):
    for name in ("windows.ipynb", "windows (1).ipynb", "windows (2).ipynb"):
        hand_in(tmp_path, "a", "{}", name.removesuffix(".ipynb"))
    for name in ("windows (2).ipynb", "windows (10).ipynb"):
        hand_in(tmp_path, "b", "{}", name.removesuffix(".ipynb"))
    found = found_in(tmp_path)
    assert found["a", NAME] == ("", "windows.ipynb") and found["b", NAME] == ("", "windows (10).ipynb")
    assert "windows.ipynb counts" in found["a", "windows (2)"][0] and len(found) == 5


def test_everybody_has_a_row(tmp_path):
    hand_in(tmp_path / "in", "0012345", "{}")
    hand_in(tmp_path / "in", "stranger", "{}")
    for student, file in {"zipped": "work.zip", "script": "windows_answers_.py", "empty": None}.items():
        (tmp_path / "in" / student).mkdir()
        if file:
            (tmp_path / "in" / student / file.replace("windows_answers_", "answers")).write_text("")
    roster = tmp_path / "students.csv"
    roster.write_bytes("student;name\n0012345;Zoë\nabsent;Ana\nzipped;Bo\n".encode("cp1252"))
    found = found_in(tmp_path / "in")
    assert "work.zip" in found["zipped", NAME][0] and "answers.py" in found["script", NAME][0]
    assert found["empty", NAME][0] == "the folder is empty" and ("absent", NAME) not in found
    found = {s.student: s for s in handed_in.find_submissions(tmp_path / "in", [NAME], roster)}
    assert found["absent"].problem == handed_in.MISSING and found["0012345"].problem == ""
    assert found["stranger"].notice and not found["0012345"].notice
    composed, apart = "Zo\xeb", "Zoe\u0308"
    hand_in(tmp_path / "in", apart, "{}")
    roster.write_text(f"student\n{composed}\n12345\n", encoding="utf-16")  # by a spreadsheet, which cut off the zeros
    found = {s.student: s for s in handed_in.find_submissions(tmp_path / "in", [NAME], roster)}
    assert not (found[apart].notice or found["0012345"].notice) and not {composed, "12345"} & set(found)
    roster.write_text("\n\n")
    with pytest.raises(ValueError, match="no student in the roster"):
        found_in(tmp_path / "in", roster=roster)


def test_flat_exports_of_canvas_and_moodle_are_read_as_they_are(tmp_path):
    for name in (
        "doejane_123_456_windows.ipynb",
        "roejo_LATE_124_457_windows-1.ipynb",
        "roejo_LATE_124_457_helper.py",
        "Max Poe_99_assignsubmission_file_windows (2).ipynb",
        "loeann_125_458_notes.pdf",
    ):
        (tmp_path / name).write_text("{}")
    folder = tmp_path / "Eve Noe_98_assignsubmission_file"
    folder.mkdir()
    (folder / "windows.ipynb").write_text("{}")
    found = {s.student: s for s in handed_in.find_submissions(tmp_path, [NAME])}
    assert {who: (s.system, s.number, s.late, s.assignment) for who, s in found.items() if not s.problem} == {
        "doejane_123": ("canvas", "123", False, NAME),
        "roejo_124": ("canvas", "124", True, NAME),
        "Max Poe_99": ("moodle", "99", False, NAME),
        "Eve Noe_98": ("moodle", "98", False, NAME),
    }
    assert "notes.pdf" in found["loeann_125"].problem
    assert found["doejane_123"].files is None  # the others' files lie there


@pytest.mark.parametrize(
    "wrap, encoding",
    [
        ("{}\n>>>>>>> theirs\n", "utf-8-sig"),
        ("<<<<<<< HEAD\r\n{}\r\n=======\r\n>>>>>>> main\r\n", "utf-16"),
        ("\ufeff{}\r\n", "cp1252"),
    ],
)
def test_what_editors_and_merges_do_to_a_notebook_costs_nothing(tmp_path, wrap, encoding):
    notebook = nbformat.writes(before("s = 'LONE'", why="Schön,\x85 a line\u2028more."))
    text = wrap.replace("{}", notebook.replace("LONE", "\\ud83d"))  # half an emoji
    path = hand_in(tmp_path, "a", "")
    path.write_bytes(text.encode(encoding, "ignore"))
    source = source_notebook()
    mended, actions = preflight.repair(preflight.read(tables.text_in(path)), source, released())
    assert not actions and "Schön" in preflight.by_id(mended)["why"].source
    if encoding == "utf-16":
        hand_in(tmp_path / "in", "a", "")
        assert ledger.automatic(grade_one(tmp_path, nbformat.writes(mended), isolated=False)) == 5


def test_a_notebook_that_cannot_be_read_can_be_given_points_by_hand(small, tmp_path, monkeypatch, capsys):
    arguments, _, _ = small
    monkeypatch.undo()
    hand_in(tmp_path / "in", "a", "no notebook"), hand_in(tmp_path / "in", "b", ""), hand_in(tmp_path / "in", "c", "1")
    assert grade.main(arguments) == 0
    assert "3 need a person" in capsys.readouterr().out
    manual = tmp_path / "out" / "manual.csv"
    manual.write_text(manual.read_text() + "a,windows,test_windows,3,3,by mail,\n")
    grade.main(arguments)
    assert [row["score"] for row in rows(tmp_path / "out" / "grades.csv")] == ["3", "0", "0"]


# One student, and all others ------------------------------------------------------------


def test_no_name_stops_a_run_or_hides_its_scores(small, tmp_path, capsys):
    arguments, *_ = small
    hand_in(tmp_path / "in", "n" * 205, answer(**RIGHT))
    hand_in(tmp_path / "in", "long", answer(**RIGHT), name="windows" + "x" * 240)
    hand_in(tmp_path / "in", "two\nlines\x1b[2J\u202e", answer(**RIGHT))
    os.makedirs(os.fsencode(tmp_path / "in") + b"/caf\xe9")
    hand_in(Path(os.fsdecode(os.fsencode(tmp_path / "in"))), os.fsdecode(b"caf\xe9"), answer(**RIGHT))
    assert grade.main(arguments) == 0
    out = capsys.readouterr().out
    out.encode("utf-8")
    lines = [line for line in out.splitlines() if re.match(r"\[ *\d+/", line)]
    assert len(lines) == 7 and all(re.search(r"\d/\d", line) for line in lines)
    assert "\x1b" not in out and "\u202e" not in out
    assert len(rows(tmp_path / "out" / "grades.csv")) == 7


def test_a_narrow_terminal_stops_nothing(tmp_path):
    hand_in(tmp_path / "in", "Łukasz", "")
    command = [sys.executable, "-m", "tools.grade", tmp_path / "in", "--into", tmp_path / "out", "--isolation", "off"]
    narrow = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([*command, "--source", make_source(tmp_path / "source")], cwd=ROOT, env=narrow)
    assert done.returncode == 0 and rows(tmp_path / "out" / "grades.csv")[0]["student"] == "Łukasz"


def test_nothing_is_installed_into_the_environment(tmp_path):
    told = sandbox.environment(tmp_path)
    assert told["PIP_NO_INDEX"] == "1" and Path(told["PIP_TARGET"]).parent == tmp_path
    uninstall = [sys.executable, "-m", "pip", "uninstall", "-y", "no-such-package"]
    assert "switched off" in subprocess.run(uninstall, env=told, capture_output=True, text=True).stderr


def test_a_linked_environment_is_seen_in_isolation(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "venv").symlink_to(tmp_path / "real")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    assert {tmp_path / "venv", tmp_path / "real"} <= set(sandbox.visible(ROOT))


@alone
def test_isolation_can_be_had_through_links_and_in_folders_with_spaces(tmp_path):
    (tmp_path / "one").symlink_to(sys.prefix)
    (tmp_path / "two").symlink_to(tmp_path / "one")
    (tmp_path / "a folder").mkdir()
    code = "from tools.grading import sandbox; print(sandbox.missing() or 'isolated')"
    command = [tmp_path / "two" / Path(sys.executable).relative_to(sys.prefix), "-c", code]
    told = {**os.environ, "TMPDIR": str(tmp_path / "a folder")}
    done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True)
    assert done.stdout == "isolated\n", done.stderr


def test_files_beside_a_notebook_stand_in_for_nothing(tmp_path):
    """Whatever they are called, what they would replace comes first; a module of another name can be imported."""
    hand_in(
        tmp_path / "in",
        "a",
        before("import helper\nassert helper.two == 2\nimport random, numpy, companion", **NOTHING),
    )
    for name in "ipykernel_launcher ipykernel numpy random companion json sitecustomize usercustomize answers".split():
        (tmp_path / "in" / "a" / f"{name}.py").write_text("raise SystemExit('in place of it')")
    (tmp_path / "in" / "a" / "helper.py").write_text("two = 2\nimport numpy\nnumpy.testing.assert_allclose = print")
    assignments = course.load_assignments(make_source(tmp_path / "source"))
    submission = handed_in.Submission("a", tmp_path / "in" / "a" / f"{NAME}.ipynb")
    record = marking.grade(submission, assignments, sandbox.Limits(), isolated=False)
    assert ledger.automatic(record) == 0 and record["human"] == []
    assert not [o for c in record["notebook"]["cells"][:4] for o in c.get("outputs", []) if o["output_type"] == "error"]
    hand_in(tmp_path / "in", "a", answer(**RIGHT))
    assert ledger.automatic(marking.grade(submission, assignments, sandbox.Limits(), isolated=False)) == 5


# Spreadsheets ------------------------------------------------------------


def test_scores_survive_what_spreadsheets_do(tmp_path):
    cell = {"cell": "why", "score": None, "max_score": 4.0, "status": "by hand", "message": ""}
    record = {"assignment": NAME, "version": "", "status": "graded", "human": [], "max_score": 4.0, "cells": [cell]}
    records = [record | {"student": student} for student in ("0012345", "-x", "b")]
    text = "student;assignment;cell;max_score;manual_score;comment;version\r\n"
    text += (
        "12345;windows;why;4;2,5;schön;\r\n'-x;windows;why;4;1;;\r\nnobody;windows;why;4;4;;\r\nb;windows;why;4;;;\r\n"
    )
    for encoding in ("cp1252", "utf-8-sig", "utf-16"):
        (tmp_path / "manual.csv").write_bytes(text.encode(encoding))
        manual, lost = ledger.matched(ledger.read_manual(tmp_path), records)
        assert ledger.points(records[0], manual)["why"] == (2.5, "schön")
        assert ledger.points(records[1], manual)["why"][0] == 1
        assert lost == [("nobody", NAME, "why")]
    records.append(record | {"student": "012345"})  # now nobody can tell
    assert len(ledger.matched(ledger.read_manual(tmp_path), records)[1]) == 2


def test_a_score_for_nobody_is_told(small, tmp_path, capsys):
    arguments, _, _ = small
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manual.csv").write_text(",".join(ledger.MANUAL) + "\nnobody,windows,why,4,4,,\n")
    grade.main(arguments)
    assert "1 need a person" in capsys.readouterr().out
    assert "there is no nobody, windows, why" in (tmp_path / "out" / "needs_a_human.md").read_text()


# Options ------------------------------------------------------------


def test_side_by_side_gives_the_same_scores(tmp_path):
    wrong = {"windows": RIGHT["windows"], "strongest": "strongest = 0"}
    for number in range(4):
        hand_in(tmp_path / "in", f"s{number}", answer(**(RIGHT if number % 2 else wrong)))
    source, found = make_source(tmp_path / "source"), []
    for jobs in (1, 4):
        into = tmp_path / f"out{jobs}"
        assert run(tmp_path / "in", "--into", into, "--source", source, "--jobs", jobs).returncode == 0
        found.append([rows(into / name) for name in ("grades.csv", "cells.csv")])
    assert found[0] == found[1]
    assert [row["score"] for row in found[0][0]] == ["3", "5", "3", "5"]


def test_an_interrupt_ends_those_that_run_beside(small, tmp_path):
    arguments, _, stand_in = small
    stand_in.stop_at = "b"
    assert grade.main([*arguments, "--jobs", "3"]) == 130
    kept = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("*.json")]
    assert all(record["status"] == "graded" and not record["human"] for record in kept)
    stand_in.stop_at = None
    assert grade.main([*arguments, "--jobs", "3"]) == 0
    assert [row["score"] for row in rows(tmp_path / "out" / "grades.csv")] == ["3", "3", "3"]
    assert not sandbox.interrupted.is_set()


def test_days_late_cost_their_share(small, tmp_path):
    arguments, _, _ = small
    late = tmp_path / "late.csv"
    late.write_text("student,assignment,days\na,windows,0.5\nb,windows,20\n")
    grade.main([*arguments, "--late", str(late), "--late-percent", "20"])
    found = rows(tmp_path / "out" / "grades.csv")
    assert [(row["score"], row["deducted"]) for row in found] == [("2.4", "0.6"), ("0", "3"), ("3", "0")]
    page = (tmp_path / "out" / "feedback" / "a" / "windows.html").read_text()
    assert "2.4 of 3 points" in page and "0.6 points were deducted" in page
    hand_in(tmp_path / "in", "007", answer(**RIGHT))
    late.write_text("student;assignment;days\n7;windows;1,5\nnobody;windows;1\nb;windws;1\nc;other;0\n")
    grade.main([*arguments, "--late", str(late)])
    found = {row["student"]: row["deducted"] for row in rows(tmp_path / "out" / "grades.csv")}
    assert found == {"007": "0.6", "a": "0", "b": "0", "c": "0"}
    told = (tmp_path / "out" / "needs_a_human.md").read_text()
    assert "there is no nobody, windows" in told and "there is no b, windws" in told and "c, other" not in told
    (tmp_path / "in" / "doejane_LATE_123_456_windows.ipynb").write_text(nbformat.writes(answer(**RIGHT)))
    grade.main([*arguments, "--late", str(late)])
    why = {row["student"]: row["why"] for row in rows(tmp_path / "out" / "grades.csv")}
    assert "does not say by how much" in why["doejane_123"] and not why["a"]
    late.write_text("student,assignment,days\na,windows,soon\n")
    assert "line 2" in sentence([*arguments, "--late", late])


def test_anonymous_names_tell_nothing_and_stay(small, tmp_path):
    arguments, _, _ = small
    for student in ("distinctive-name", "-x", "0012345"):
        hand_in(tmp_path / "in", student, answer(**RIGHT))
    grade.main([*arguments, "--anonymous"])
    first = rows(tmp_path / "out" / "grades.csv")
    identities = tmp_path / "out" / "identities.csv"
    identities.write_text(identities.read_text().replace("0012345", "12345").replace(",", ";"))  # a spreadsheet did
    grade.main([*arguments, "--anonymous"])
    assert rows(tmp_path / "out" / "grades.csv") == first and len(first) == 6
    told = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "identities.csv"]
    assert not any("distinctive" in str(path) + path.read_text() for path in told)
    known = {row["alias"]: row["student"] for row in rows(identities)}
    assert {known[row["student"]] for row in first} == {"a", "b", "c", "distinctive-name", "'-x", "0012345"}


def test_other_systems_get_the_tables_that_they_import(small, tmp_path):
    arguments, _, _ = small
    for name in ("doejane_123_456_windows.ipynb", "Max Poe_99_assignsubmission_file_windows.ipynb"):
        (tmp_path / "in" / name).write_text(nbformat.writes(answer(**RIGHT)))
    for more in ([], ["--anonymous"]):
        grade.main([*arguments, *more])
        canvas = rows(tmp_path / "out" / "canvas.csv")
        assert list(canvas[0]) == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", NAME]
        assert canvas[0]["Student"] == "Points Possible" and canvas[0][NAME] == "3"
        assert (canvas[1]["Student"], canvas[1]["ID"], canvas[1][NAME]) == ("doejane", "123", "3")
        (moodle,) = rows(tmp_path / "out" / f"moodle-{NAME}.csv")
        assert moodle["Identifier"] == "Participant 99" and moodle["Full name"] == "Max Poe"
        assert moodle["Grade"] == "3.00" and moodle["Maximum Grade"] == "3.00"


def test_who_wrote_alike(tmp_path):
    long = "def windows(x, k):\n" + "".join(
        f"    a{i} = [x[j] + {i} * k for j in range(k) if j != {i}]\n" for i in range(9)
    )
    other = "def windows(x, k):\n    total = {}\n" + "".join(
        f"    while len(total) < {i} and k not in total:\n        total.update(dict(zip(x, x)))\n" for i in range(9)
    )
    texts = {"one": long, "two": re.sub(r"\ba(\d)", r"value_\1", long).replace("for j in", "for j  in"), "three": other}
    for student, text in texts.items():
        hand_in(tmp_path / "in", student, answer(windows=text))
    assignments = course.load_assignments(make_source(tmp_path / "source"))
    reports.write_similarity(tmp_path, handed_in.find_submissions(tmp_path / "in", [NAME]), assignments)
    (pair,) = rows(tmp_path / "similarity.csv")
    assert (pair["one"], pair["other"]) == ("one", "two") and float(pair["share"]) > 0.9


# What a task asks for cannot be taken from the companion ------------------------------------------------------------

SCRATCH = """sum = max = len = zip = range = list = dict = set = abs = sorted = isinstance = float = 0
F = np = model = inputs = make = 3
import os, torch as library, warnings
warnings.simplefilter("error")
library.set_default_dtype(library.float64)
library.use_deterministic_algorithms(True)
os.chdir("/")"""
TAKEN = {
    "convolve": """from types import SimpleNamespace
def convolve(params, hidden, attention_mask):
    K = sum(name.startswith("convs.") for name in params) // 2
    weights = [(params[f"convs.{i}.weight"], params[f"convs.{i}.bias"]) for i in range(K)]
    convs = [lambda x, w=w, b=b: F.conv1d(x, w, b) for w, b in weights]
    config = SimpleNamespace(kernel_sizes=[w.shape[-1] for w, _ in weights])
    return BertCNN.convolve(SimpleNamespace(convs=convs, config=config), hidden, attention_mask)""",
    "pool": """import types
theirs = types.FunctionType(BertCNN.pool.__code__, {"torch": torch})
def pool(maps):
    return theirs(None, maps)""",
    "classify": """import companion.pytorch_functional as theirs
def classify(params, features, dropout=0.0):
    layer = {p: params[f'classifier.{p}'] for p in ('weight', 'bias')}
    return theirs.classify({'classifier': layer}, features, dropout)""",
    "embed": """def embed(params, encoder, input_ids, attention_mask):
    return BertCNN.embed(model, input_ids, attention_mask)""",
}


def test_the_companions_functions_are_no_answer_and_ones_own_are(tmp_path):
    name = "3_port_to_functional"
    source = nbformat.read(ROOT / coursework.SOURCE / name / f"{name}.ipynb", as_version=4)
    solved = nbformat.from_dict(source)
    for check in [preflight.grade_id(one) for one in source.cells]:
        if (check or "").startswith("check_"):
            solved.cells.insert(at(solved, check) + 1, new_code_cell(SCRATCH))
    hand_in(tmp_path / "in", "solved", solved, name)
    for task, code in TAKEN.items():
        preflight.by_id(source)[task].source = code
    hand_in(tmp_path / "in", "taken", source, name)
    done = run(tmp_path / "in", "--into", tmp_path / "out", "--jobs", 2)
    assert done.returncode == 0, done.stderr
    found = {row["student"]: row for row in rows(tmp_path / "out" / "grades.csv")}
    assert found["solved"]["score"] == "20", found
    scores = {r["cell"]: r["score"] for r in rows(tmp_path / "out" / "cells.csv") if r["student"] == "taken"}
    asked = {cell for cell, score in scores.items() if score != "0"}
    assert asked == {"check_parameters", "hidden_parameters", "check_gradients", "hidden_gradients"}


def switched_off(path):
    """{function: does it do nothing?} of a module of the package that answers may import."""
    functions = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.FunctionDef)]
    return {function.name: isinstance(function.body[0], ast.Raise) for function in functions}


def test_the_package_that_answers_may_import_lacks_what_is_asked():
    for path in coursework.sources():
        assignment = course.load_assignments(path.parent.parent)[path.stem]
        tasks, used = asking.bound_by(assignment), asking.used_by(assignment)
        folder = asking.package_without(tasks, used)
        for name, module in asking.MODULES.items():
            off = switched_off(folder / module.relative_to(ROOT))
            assert all(off.values()) or name in used, (path.stem, name)
            assert all(off[task] for task in tasks & set(off)), (path.stem, name)
        assert not all(switched_off(folder / "companion" / "display.py").values())  # each assignment needs it
        assert (folder / "companion" / "assets").is_dir()


def test_the_modules_that_a_cell_uses_are_found_among_magics():
    code = "if True:\n    %pip install x\n!ls\nfrom companion import display, checks\nimport companion.tasks.data as d"
    found = {"companion", "companion.display", "companion.checks", "companion.tasks", "companion.tasks.data"}
    assert asking.imported(code) == found


def test_a_tagger_is_not_to_be_had_from_the_companion():
    """Functions of the task's names, and others that do the same, lie in modules that the assignment does not use."""
    assignment = course.load_assignments(ROOT / coursework.SOURCE)["5_a_tagger"]
    folder = asking.package_without(asking.bound_by(assignment), asking.used_by(assignment))
    calls = 'spans(["B-a"])', "encode([], [], None, [])", "span_counts([], [])"
    code = "from companion.tasks.tagging import encode, span_counts, spans\n"
    code += "".join(f"try: {call}\nexcept NotImplementedError: print('off')\n" for call in calls)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout.split() == ["off"] * 3, done.stderr


# What goes from one process to the other ------------------------------------------------------------


def test_values_arrive_as_they_were_sent():
    values = [None, True, 3, -1.5, "é\0", [], (1, [2.0]), {"a": (), 3: None}, range(2, 9, 3), float("inf")]
    values += [{"x": [{"y": (1,)}]}, "", [[[]]]]
    assert wire.unpack(wire.pack(values)) == values
    for array in (np.arange(6).reshape(2, 3), np.zeros((0, 4), bool), np.array(2.5, "f4"), np.ones((2, 3), "c8").T):
        found = wire.unpack(wire.pack(array))
        assert found.dtype == array.dtype and found.shape == array.shape and (found == array).all()
    for tensor in (torch.arange(4), torch.rand(2, 3).T, torch.tensor(True), torch.zeros(0, 2).bfloat16()):
        found = wire.unpack(wire.pack(tensor))
        assert found.dtype == tensor.dtype and torch.equal(found, tensor)
    assert wire.unpack(wire.pack(torch.nn.Parameter(torch.ones(2)))).requires_grad
    frame = pd.DataFrame({"text": ["a", "b"], "n": [1, 2], "x": [0.5, np.nan]}, index=[7, 3])
    pd.testing.assert_frame_equal(wire.unpack(wire.pack(frame)), frame)
    assert type(wire.unpack(wire.pack(np.float32(1)))) is np.float32


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(max_size=8), st.lists, max_leaves=20))
def test_whatever_comes_it_is_a_value_or_refused(message):
    message = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\0"
    with contextlib.suppress(wire.Unsendable):
        wire.unpack(message)


@pytest.mark.parametrize(
    "message",
    [
        b"[" * 100_000,
        b'["array", ["<f8", [1000000000000]]]\0',
        b'["array", ["|O", [1]]]\0........',
        b'["array", ["<f8", [-1]]]\0........',
        b'["torch", "__class__", [1], false]\0........',
        b'["special", "held", 0]\0',
        b'["record", ["__class__", 1]]\0',
        b"1" * 20_000_000,
    ],
)
def test_a_message_that_is_none_is_refused(message):
    with pytest.raises(wire.Unsendable):
        print(wire.unpack(message))


def test_a_sentence_repeats_little_of_what_the_students_process_said():
    """Neither its texts, nor short ones in a list, nor a long row of numbers; the test's own words stay."""
    said = sentences.of(AssertionError("'a' and ['a', 'b [1, 0', 'b']"), "assert 'a'", {"a", "b [1, 0", "b"})
    assert said == "AssertionError: 'a' and ['a', ..., ...]"
    assert "4, 4" not in sentences.of(AssertionError("not {1, 0, 4, 4}"), "", {"{1, 0, 4, 4}"})
    assert len(sentences.of(AssertionError(str(list(range(9999)))), "", set())) == sentences.LONGEST <= 500


def test_only_plain_values_are_sent():
    for value in (object(), {1, 2}, lambda: 0, type, np.array([object()], object), iter([])):
        with pytest.raises(wire.Unsendable):
            wire.pack(value)
    loop = []
    loop.append(loop)
    with pytest.raises(wire.Unsendable, match="nested"):
        wire.pack(loop)
