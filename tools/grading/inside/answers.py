"""Answer the referee: call the student's function with the values that it sends, and send back what it returns.

This runs where the student's code runs, so that code can change all of it. What it can change is only its own answers:
nothing here knows what is right.
"""

import builtins
import contextlib
import sys
import warnings
from multiprocessing.connection import Client

import numpy as np
from IPython import get_ipython

from . import wire

HARMLESS = "eval train to cpu float requires_grad_".split()  # of a model: asked for often, and of no effect here
# The assignment's own cells; what they define, once it is needed; and whether they leave gradients switched on.
given: dict = {"cells": [], "names": None, "gradients": True}


def serve(address, key: str) -> None:
    """Answer until the referee closes the connection, or an interrupt ends a call that takes too long."""
    with contextlib.suppress(EOFError, OSError), Client(address, authkey=bytes.fromhex(key)) as referee:
        while True:
            referee.send_bytes(Call(referee).answer(referee.recv_bytes()))


class Call:
    """A request: call (name, args, kwargs), run (source, answers, name, args, kwargs), get (name), given (cells)."""

    def __init__(self, referee):
        self.referee, self.tokens = referee, {}  # what an object of the referee's was called in the request
        self.kept = []

    def answer(self, message: bytes) -> bytes:
        try:
            what, *request = wire.unpack(message, self.unwrap)
            if what == "given":
                given["cells"] = request[0]
                return wire.pack(("value", None))
            if what == "get":
                return wire.pack(("value", self.named(request[0])))
            result = self.result(what, message)
            return wire.pack(("value", result), self.token)
        except BaseException as error:  # SystemExit and KeyboardInterrupt are answers, too
            return wire.pack(("error", *told(error)))

    def result(self, what: str, message: bytes):
        """What the function returns, in the student's settings or, if it is a test's, in its own."""
        ways: list = [contextlib.nullcontext, as_given]
        errors = []
        if what == "run":
            clean()
            ways = [fresh, as_given, contextlib.nullcontext]
        for way in ways:
            _, *where, args, kwargs = wire.unpack(message, self.unwrap)  # new ones each time
            try:
                with way():
                    function = self.named(*where) if what == "call" else self.beside(*where)
                    return function(*args, **kwargs)
            except NotImplementedError:
                raise
            except Exception as error:
                errors.append(error)
        raise errors[0]

    def named(self, name: str):
        names = get_ipython().user_ns
        if name not in names:
            raise NameError(name)
        return names[name]

    def beside(self, source: str, answers: list[str], name: str):
        """A function of the test's, made here: in the assignment's own names and the student's answers."""
        names, theirs = dict(clean()), get_ipython().user_ns
        names |= {answer: theirs[answer] for answer in answers if answer in theirs}
        exec(compile(source, "<test>", "exec"), names)
        return names[name]

    def unwrap(self, kind: str, *parts):
        """An object of the referee's: one of the assignment's own, a function by its source, or a stand-in."""
        if kind == "given":
            name, child = parts
            found = getattr(clean()[name], child) if child else clean()[name]
        elif kind == "function":
            found = self.beside(*parts)
        elif kind == "answer":
            found = self.named(*parts)
        else:
            found = StandIn(self, *parts)
        self.kept.append(found)  # or its id could be another's later
        self.tokens[id(found)] = [kind, *parts]
        return found

    def token(self, value):
        return self.tokens.get(id(value))

    def ask(self, number: int, method: str | None, args: tuple, kwargs: dict):
        self.referee.send_bytes(wire.pack(("ask", number, method, args, kwargs), self.token))
        status, value = wire.unpack(self.referee.recv_bytes(), self.unwrap)
        if status == "error":
            raise RuntimeError(value)
        return value


class StandIn:
    """An object that stays with the referee: it can be called, and so can the methods that the test wrote for it."""

    def __init__(self, call: Call, number: int, methods: list[str]):
        self._call, self._number, self._methods, self.training = call, number, methods, False

    def __call__(self, *args, **kwargs):
        return self._call.ask(self._number, None, args, kwargs)

    def __getattr__(self, name: str):
        if name in HARMLESS:
            return lambda *_, **__: self
        if name == "predict":
            return lambda inputs, **_: self(inputs)
        if name.startswith("_") or name not in self._methods:
            raise AttributeError(name)
        return lambda *args, **kwargs: self._call.ask(self._number, name, args, kwargs)


def clean() -> dict:
    """What the assignment's own cells define, whatever the student's cells have done to these names since."""
    if given["names"] is None:
        names = {"__name__": "__main__", "get_ipython": get_ipython}
        with fresh():
            for cell in given["cells"]:
                with contextlib.suppress(Exception), contextlib.redirect_stdout(None):
                    exec(compile(get_ipython().transform_cell(cell), "<given>", "exec"), names)
            if torch := sys.modules.get("torch"):
                given["gradients"] = torch.is_grad_enabled()
        given["names"] = names
    return given["names"]


@contextlib.contextmanager
def as_given():
    """Python's names and the assignment's mean what they should, and settings are those of a new process.

    A scratch cell may have said `sum = 0` or `F = 3` since the student wrote and checked the answer.
    """
    theirs, ours = get_ipython().user_ns, {name: it for name, it in clean().items() if not name.startswith("_")}
    python = [name for name in vars(builtins) if not name.startswith("_")]
    hidden = {name: theirs.pop(name) for name in {*python, *ours} if name in theirs}
    theirs |= ours
    try:
        with fresh():
            yield
    finally:
        for name in ours:
            theirs.pop(name, None)
        theirs |= hidden


@contextlib.contextmanager
def fresh():
    """The settings of a new process, for a while."""
    settings, torch, keras = [], sys.modules.get("torch"), sys.modules.get("keras")
    if torch:
        settings += [(torch.is_grad_enabled, torch.set_grad_enabled, given["gradients"])]
        settings += [(torch.get_default_dtype, torch.set_default_dtype, torch.float32)]
        settings += [(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, False)]
    if keras:
        settings += [(keras.config.floatx, keras.config.set_floatx, "float32")]
    with contextlib.ExitStack() as stack, warnings.catch_warnings(), np.errstate(all="warn"):
        warnings.simplefilter("ignore")
        for get, put, value in settings:
            stack.callback(put, get())
            put(value)
        yield


def told(error: BaseException) -> tuple[str, int]:
    """The kind of error and the line in the student's cell: nothing that could carry what a test was."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind]
    line, trace, names = 0, error.__traceback__, get_ipython().user_ns
    while trace:
        line = trace.tb_lineno if trace.tb_frame.f_globals is names else line
        trace = trace.tb_next
    return ("Unsendable" if isinstance(error, wire.Unsendable) else kinds[0]), line
