"""Grading: thirty-odd submissions, good, clumsy and hostile, each with its exact score, in one folder, on one run."""

import base64
import csv
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest
import zmq
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import coursework, grade
from tools.grading import course, execution, ledger, marking, preflight, sandbox

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
    "strongest": "def strongest(x):\n    return 0",
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
        module.pack = lambda *a: b'["list", "value", true, null]\\0'""",
    "replies": """import multiprocessing.connection as c
c.Connection.send_bytes = lambda self, *a: None""",
    "floods": """import multiprocessing.connection as c
old = c.Connection.send_bytes
c.Connection.send_bytes = lambda self, *a: old(self, b'[' * 10**6)""",
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
    "max": "values = sorted([3, 1])\nmin = values[0]\nabs = 1",
    "np_relu": "np.relu = relu = lambda x: np.maximum(x, 0)",
    "looks": "import inspect\nprint(inspect.getsource(windows))\nprint(In[1:])",
    "imports": "import numpy as np\nimport numpy\nassert_allclose = np.testing.assert_allclose",
    "settings": "%precision 3\n%xmode Plain\nget_ipython().ast_node_interactivity = 'all'\n%time 1",
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
        "processes": (before("import os\nwhile True: os.fork()"), 0, "used more than|started more than"),
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
        hand_in(self.folder, "wrong_name", answer(**RIGHT), name="windows (1)")
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
    for secret in ("[1, 0, 4, 4]", "[-3, -1]", "err_msg"):  # of the hidden tests
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
        return record | {"notes": [], "human": [], "max_score": 3.0, "notebook": None}

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
    released = preflight.release(source)
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
    submission = course.Submission("a", hand_in(tmp_path / "in", "a", notebook))
    limits = sandbox.Limits(**{"cell_seconds": 2, "seconds": 30, "memory_mb": 600, "disk_mb": 20} | limits)
    return marking.grade(submission, assignments, limits, isolated)


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
    assert ledger.table(["message"], [["=HYPERLINK(1)"]]) == "message\n'=HYPERLINK(1)\n"
