"""The process that knows what is right: it runs an assignment's tests and asks the student's process for values.

python -P -s referee.py talks in lines of JSON: first the assignment's cells come in; then, for each test, its number
goes in and how it ended comes out. In a test the names that students define are stand-ins: a call sends its arguments
to the other process (inside/answers.py) and returns what comes back. This is how arguments go over:

- numbers, text, lists, dicts, arrays, tensors and tables, as copies: what the call changes in them stays there, or an
  answer could make the right value what it likes;
- a function that the test defines, as its source, without the rest of the test;
- an object that the assignment's own cells define (`model`, `model.encoder`), by its name;
- any other object stays here: it can be called from there, as can the methods that the notebook wrote for it.
"""

import ast
import contextlib
import inspect
import io
import json
import os
import secrets
import sys
import textwrap
from multiprocessing.connection import Listener
from pathlib import Path
from types import FunctionType
from typing import Any

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from IPython.core.interactiveshell import InteractiveShell  # noqa: E402

from companion import checks  # noqa: E402
from tools.grading import sentences  # noqa: E402
from tools.grading.inside import limit, wire  # noqa: E402


class Gone(RuntimeError):
    """The student's process answers no more."""


def bound(source: str) -> dict[str, bool]:
    """The names that a cell defines, and for each whether it is called (a function or a class)."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # magics
        return {}
    called = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    found = {node.name: True for node in body if isinstance(node, called)}
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for name in ast.walk(ast.Module([ast.Expr(t) for t in targets if t is not None], [])):
            if isinstance(name, ast.Name):
                found[name.id] = isinstance(getattr(node, "value", None), ast.Lambda)
    return found


class Answer:
    """Stands for a student's function, or for a function of the test's that runs beside it."""

    where: tuple

    def __init__(self, referee: "Referee", *where):
        self.__dict__.update(referee=referee, where=where, __name__=where[-1])

    def __call__(self, *args, **kwargs):
        return self.referee.send(*self.where, args, kwargs)

    def __get__(self, instance, owner=None):  # a method, if a class is given it
        return self if instance is None else lambda *args, **kwargs: self(instance, *args, **kwargs)


class Referee:
    """The assignment's own names, and the stand-ins for a student's."""

    def __init__(self, cells: list[dict]):
        self.shell, self.cells = InteractiveShell.instance(), cells
        self.student: Any = None  # a connection, while a test is judged
        self.names, self.held, self.texts, self.imports = self.shell.user_ns, [], set(), ""
        self.answers = {}
        before = set(self.names)
        for cell in cells:
            if cell["kind"] == "solution":
                self.answers |= bound(cell["source"])
            if cell["kind"] != "test":
                error = self.run(cell["source"])[0]
                if error and cell["kind"] == "given":
                    raise error
        self.given = {name: self.names[name] for name in set(self.names) - before - set(self.answers)}
        checks.remote = self.remote

    def run(self, source: str):
        """(error, last value, what was printed) of a cell."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            done = self.shell.run_cell(source, store_history=False)
        return done.error_before_exec or done.error_in_exec, done.result, printed.getvalue()

    def test(self, number: int, student) -> dict:
        """Run one test against the process at the other end of a connection; how it ended."""
        source = self.cells[number]["source"]
        self.student, self.held, self.texts, self.imports = student, [], set(), imports(source)
        self.names.update(self.given)
        self.send("given", [cell["source"] for cell in self.cells if cell["kind"] == "given"])
        for name, called in self.answers.items():
            self.names[name] = Answer(self, "call", name)
            if not called and name in {n.id for n in ast.walk(parsed(source)) if isinstance(n, ast.Name)}:
                with contextlib.suppress(Exception):
                    self.names[name] = self.send("get", name)
        error, value, printed = self.run(source)
        if error is None:
            return {"status": "ok", "message": "", "printed": printed, "value": None if value is None else repr(value)}
        kind = "gone" if isinstance(error, Gone) else "error"
        return {"status": kind, "message": sentences.of(error, source, self.texts), "printed": printed}

    # What goes over ------------------------------------------------------------

    def send(self, *request):
        """Send a request and answer what the other side asks meanwhile; the value."""
        self.post(request)
        while True:
            try:
                message = self.student.recv_bytes(wire.LARGEST)
            except (EOFError, OSError) as error:
                raise Gone("the notebook's process did not answer") from error
            what, *parts = wire.unpack(message, self.unwrap)
            if what == "value" and len(parts) == 1:
                self.remember(parts)
                return parts[0]
            if what == "ask" and len(parts) == 4:
                self.remember(parts)
                self.post(self.asked(*parts))
            else:
                raise sentences.failure(request, *parts)

    def post(self, message: tuple) -> None:
        try:
            self.student.send_bytes(wire.pack(message, self.wrap))
        except OSError as error:
            raise Gone("the notebook's process did not answer") from error

    def asked(self, number: int, method: str | None, args, kwargs) -> tuple:
        """Call one of our objects; no more of it than its own class in the notebook shows."""
        held = self.held[number]
        if method is not None and method not in methods(held):
            return "error", f"there is no {method} here"
        try:
            return "value", (held if method is None else getattr(held, method))(*args, **kwargs)
        except Exception as error:
            return "error", str(error)[: sentences.LONGEST]

    def wrap(self, value) -> list | None:
        """An object that is no plain value: what the other side gets for it."""
        if isinstance(value, Answer):
            return ["answer", value.where[-1]] if value.where[0] == "call" else ["function", *value.where[1:]]
        if isinstance(value, FunctionType):
            return ["function", *self.sent(value)]
        for name, own in self.given.items():
            if value is own:
                return ["given", name, None]
            children = getattr(own, "named_children", None)
            for child, module in children() if children and not isinstance(own, type) else ():
                if value is module:
                    return ["given", name, child]
        if not callable(value) and not methods(value):
            return None
        self.held.append(value)
        return ["held", len(self.held) - 1, methods(value)]

    def unwrap(self, kind: str, *parts):
        """Only what we gave comes back."""
        if kind == "held":
            return self.held[parts[0]]
        if kind == "given":
            found = self.given[parts[0]]
            return dict(found.named_children())[parts[1]] if parts[1] else found
        raise wire.Unsendable("this object was made elsewhere")

    def sent(self, function: FunctionType) -> list:
        if function.__name__ == "<lambda>":
            raise TypeError("A test's function that goes to the student's process needs a name: write it with def.")
        source = textwrap.dedent(inspect.getsource(function))
        source = "\n".join(line for line in source.split("\n") if line.strip() != "@remote")
        return [f"{self.imports}\n{source}", list(self.answers), function.__name__]

    def remote(self, function: FunctionType) -> Answer:
        return Answer(self, "run", *self.sent(function))

    def remember(self, value) -> None:
        """Texts that came from the student's process."""
        if isinstance(value, str):
            self.texts.add(value)
        elif isinstance(value, dict):
            self.remember([*value, *value.values()])
        elif isinstance(value, (list, tuple)):
            for part in value:
                self.remember(part)


def methods(value) -> list[str]:
    """The public methods that the notebook itself wrote for an object."""
    kinds = [kind for kind in type(value).__mro__ if kind.__module__ == "__main__"]
    return sorted({n for kind in kinds for n, f in vars(kind).items() if callable(f) and not n.startswith("_")})


def parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def imports(source: str) -> str:
    return "\n".join(ast.unparse(n) for n in parsed(source).body if isinstance(n, (ast.Import, ast.ImportFrom)))


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    job = json.loads(sys.stdin.readline())
    limit(job["limits"])  # whatever size an answer's values have, the machine stays usable

    def say(message: dict) -> None:
        print(json.dumps(message), file=out, flush=True)

    key, place, referee = bytes.fromhex(job["key"]), job["place"], Referee(job["cells"])
    say({"status": "ready"})
    for number in map(int, sys.stdin):
        ending = {"status": "gone", "message": "the notebook's process did not answer", "printed": ""}
        with contextlib.suppress(Exception):  # whatever the other process says or does, the next test is judged
            address = f"{place}{secrets.token_hex(4)}" if place else ("127.0.0.1", 0)  # where nothing can lie yet
            with Listener(address, authkey=key) as listener:
                say({"address": listener.address})
                with listener.accept() as student:
                    ending = referee.test(number, student)
        say(ending)


if __name__ == "__main__":
    main()
