"""What feedback says about a failed test: kinds of errors, lines and numbers, but no text from the student's process.

Such text could repeat what the process was asked, and so reveal the hidden tests.
"""

import builtins
import contextlib
import re

VALUES = re.compile(r"^ *(ACTUAL|DESIRED|x|y): .*(\n .*)*", re.M)  # arrays in NumPy's messages
LONGEST, SHORT = 500, 8  # a message; a text that could be an ordinary word


def of(error: BaseException, source: str, texts: set[str]) -> str:
    """The sentence of a test that failed, without the texts that came from the student's process."""
    message = VALUES.sub("", str(error))
    for text in sorted(texts, key=len, reverse=True):
        if len(text) >= SHORT:
            message = message.replace(text, "...")
        elif repr(text) not in source:
            message = message.replace(repr(text), "...")
    return f"{type(error).__name__}: {message}"[:LONGEST]


def failure(request: tuple, kind="", line=0, *_) -> Exception:
    """An error of the same kind as that of the student's function, with a message of our own."""
    name = (request[:2] if request[0] in ("call", "get") else request[:4])[-1]
    if kind == "Unsendable":
        return TypeError(f"{name} returned something else than numbers, text, lists, dicts, arrays and tables")
    if kind == "NotImplementedError":
        why = "it is not solved, or calls a function of the companion that is switched off while answers are graded"
        return NotImplementedError(f"{name}: {why}")
    if kind == "NameError" and not line:
        return NameError(f"name '{name}' is not defined")
    found = getattr(builtins, str(kind), None)
    ordinary = isinstance(found, type) and issubclass(found, Exception)
    ordinary = ordinary and found is not StopIteration  # it would end a test's `all` or `map` early
    where = f" in line {int(line)} of the notebook's cell" if line else ""
    text = f"{name} failed{where}" if ordinary else f"{name} raised {kind if found else 'an error'}{where}"
    with contextlib.suppress(Exception):
        return found(text) if ordinary else RuntimeError(text)
    return RuntimeError(text)
