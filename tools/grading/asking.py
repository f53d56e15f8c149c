"""Has a submission's answers judged: by a referee, in a process of its own, that asks the student's for values."""

import ast
import contextlib
import functools
import json
import queue
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import nbformat
from nbgrader import utils

from tools.grading import preflight
from tools.grading.course import Assignment, is_test
from tools.grading.execution import Ending, Kernel
from tools.grading.sandbox import ROOT, Limits, environment

PATIENCE = 10  # seconds for a referee to come to its verdict, once the student's process has nothing more to say
PACKAGE = ROOT / "companion"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
STEPS = {"embed", "convolve", "pool", "classify"}  # that keras_functional spells without naming them


class Referee:
    """The process of referee.py: started with an assignment's cells, asked for one test after the other."""

    def __init__(self, assignment: Assignment, limits: Limits):
        self.home = tempfile.mkdtemp(prefix="referee-")
        self.key, self.lines, self.numbers = secrets.token_hex(16), queue.Queue(), {}
        self.cells, self.limits = cells_of(assignment), limits
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-s", str(Path(__file__).with_name("referee.py"))],
            env=environment(Path(self.home)),
            cwd=self.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        threading.Thread(target=self.listen, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def listen(self) -> None:
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put({})

    def tell(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def hear(self, seconds: float) -> dict:
        """The next line, or {}."""
        with contextlib.suppress(queue.Empty):
            return self.lines.get(timeout=seconds)
        return {}

    def start(self, place: str, seconds: float) -> None:
        """Wait until the assignment's own cells have run. `place`: where its sockets begin, or "" for the network's."""
        job = {"cells": self.cells, "place": place, "key": self.key, "limits": self.limits.hard()}
        self.tell(json.dumps(job))
        if self.hear(seconds).get("status") != "ready":
            raise RuntimeError("the assignment's own cells, or its solutions, do not run")

    def test(self, name: str, kernel: Kernel, seconds: float) -> Ending:
        """How the test of this name ends for the notebook in this process."""
        number = next(i for i, cell in enumerate(self.cells) if cell["name"] == name)
        if kernel.gone:
            return Ending(message=f"not run: the notebook's process {kernel.gone}")
        self.tell(str(number))
        said = self.hear(PATIENCE)
        if not said:
            raise RuntimeError("the process that judges has ended")
        if not (address := said.get("address")):  # the notebook's process has taken away the place for it
            return Ending("error", said["message"])
        address = address if isinstance(address, str) else tuple(address)
        answers = f'__import__("sys").modules["{kernel.inside}.answers"].serve({address!r}, {self.key!r})'
        answered = kernel.run(answers, seconds, remember=False)
        hang_up(address)
        verdict = self.hear(PATIENCE)
        if not verdict:  # the line is held, and nothing is said
            answered = kernel.end(answered, "neither answered nor hung up")
            verdict = self.hear(PATIENCE)
        if not verdict:
            raise RuntimeError("a test did not come to an end, or ended the process that judges")
        if answered.status in ("timeout", "stopped"):
            return answered
        if verdict["status"] == "gone":
            return Ending("error", verdict["message"])
        outputs = [nbformat.v4.new_output("stream", name="stdout", text=verdict["printed"])]
        if verdict.get("value"):
            outputs.append(nbformat.v4.new_output("execute_result", data={"text/plain": verdict["value"]}))
        return Ending(verdict["status"], verdict["message"], outputs)


def hang_up(address) -> None:
    """Nobody else calls: if the referee still waits for a caller, this one says nothing."""
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    with contextlib.suppress(OSError), socket.socket(family) as caller:
        caller.settimeout(1)
        caller.connect(address)


def cells_of(assignment: Assignment) -> list[dict]:
    """The code cells of an assignment up to its last test, as the referee takes them."""
    found = []
    for cell in assignment.source.cells:
        if cell.cell_type != "code" or "colab" in cell.metadata.get("tags", []):
            continue
        if is_test(cell):
            kind = "test"
        elif utils.is_solution(cell):
            if utils.is_grade(cell):
                continue  # for a person
            kind = "solution"
        else:
            kind = "given" if utils.is_locked(cell) else "ordinary"
        found.append({"kind": kind, "name": preflight.grade_id(cell), "source": cell.source})
    while found and found[-1]["kind"] != "test":
        found.pop()
    return found


def bound_by(assignment: Assignment) -> frozenset[str]:
    """The names of the functions that the assignment asks for, and of their cells: a course may rename functions."""
    cells = [cell for cell in cells_of(assignment) if cell["kind"] == "solution"]
    functions = re.findall(r"^(?:async )?def (\w+)", "\n".join(cell["source"] for cell in cells), re.M)
    return frozenset([*functions, *(cell["name"] for cell in cells)])


def used_by(assignment: Assignment) -> frozenset[str]:
    """The companion's modules that an assignment's cells import, and those that these import."""
    used: set[str] = set()
    more = {name for cell in assignment.source.cells if cell.cell_type == "code" for name in imported(cell.source)}
    while more:
        used |= more
        more = {other for name in more for other in imported(MODULES[name].read_text(encoding="utf-8"))} - used
    return frozenset(used)


def imported(source: str) -> set[str]:
    """The companion's modules that some code imports; the code may contain magics."""
    found = set()
    for node in ast.walk(ast.parse(re.sub(r"^([ \t]*)[%!?].*", r"\1pass", source, flags=re.M))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {module for module in MODULES if any(f"{name}.".startswith(f"{module}.") for name in found)}


@functools.cache
def package_without(tasks: frozenset[str], used: frozenset[str]) -> Path:
    """A folder with a copy of the companion that cannot be handed in as an answer.

    In it, functions that have a task's name do nothing; in modules that the assignment does not use, no function does.
    """
    folder = tempfile.TemporaryDirectory(prefix="companion-")
    kept.append(folder)
    copy = shutil.copytree(PACKAGE, Path(folder.name, "companion"), ignore=shutil.ignore_patterns("__pycache__"))
    whole = used - {"companion.keras_functional"} if tasks & STEPS else used
    for name, original in MODULES.items():
        path = copy / original.relative_to(PACKAGE)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        switched_off = [function for function in functions if function.name in tasks or name not in whole]
        for function in switched_off:
            text = f"The companion's {function.name} is switched off while answers are graded: write it yourself."
            function.body = ast.parse(f"raise NotImplementedError({text!r})").body
        if switched_off:
            path.write_text(ast.unparse(tree), encoding="utf-8")
    return Path(folder.name)


kept = []  # until the grader ends
