"""Values as bytes, between the process that runs a student's code and the one that compares: never code, never pickles.

What goes over is of exact types: None, truth values, numbers, text, lists, tuples, dicts, ranges, arrays of NumPy,
tensors of PyTorch and of Keras, tables of pandas, and records (the fields of a dataclass). Whatever a class does to
`==` or to `shape` stays behind. A message is a line of JSON, a null byte, then the arrays' bytes.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np

LARGEST, LONGEST = 200 * 2**20, 10 * 2**20  # bytes of one message, and of its line of JSON
DEEPEST = 40
DTYPES = {np.dtype(code).str for code in "?bBhHiIlLqQefdFD"}
TORCH = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128".split()


class Unsendable(TypeError):
    """A value of another kind, or a message that is none."""


class Record(SimpleNamespace):
    """The fields of an object, by name or, as transformers' outputs allow, by number."""

    def __getitem__(self, key):
        return vars(self)[key] if isinstance(key, str) else list(vars(self).values())[key]


def pack(value, special=None) -> bytes:
    """The value as bytes. `special(object)` gives a list of plain values for an object of another kind, or None."""
    buffers = []
    try:
        text = json.dumps(_plain(value, buffers, special or (lambda _: None), 0))
    except (ValueError, RecursionError) as error:
        raise Unsendable(f"this value cannot be sent: {type(error).__name__}") from error
    return b"\0".join([text.encode("ascii"), b"".join(buffers)])


def _plain(value, buffers: list, special, depth: int):
    def inner(part):
        return _plain(part, buffers, special, depth + 1)

    def array(numbers: np.ndarray):
        numbers = np.asarray(numbers, order="C")
        if numbers.dtype.str not in DTYPES:
            return inner(numbers.tolist())  # text, or objects
        buffers.append(numbers.tobytes())
        return [numbers.dtype.str, list(numbers.shape)]

    if depth > DEEPEST:
        raise Unsendable("this value is nested too deeply")
    if value is None or type(value) in (bool, int, float, str):
        return value
    torch, pandas = sys.modules.get("torch"), sys.modules.get("pandas")
    if isinstance(value, np.ndarray):
        return ["array", array(value)]
    if isinstance(value, np.generic):
        return ["scalar", array(np.asarray(value))]
    if torch and isinstance(value, torch.Tensor):
        tensor = value.detach().cpu().contiguous()
        buffers.append(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return ["torch", str(tensor.dtype).removeprefix("torch."), list(tensor.shape), value.requires_grad]
    if type(value).__module__.startswith(("tensorflow", "keras")) and hasattr(value, "numpy"):
        return ["keras", array(value.numpy())]
    if pandas and isinstance(value, pandas.Series):
        return ["series", inner(value.index.tolist()), inner(value.to_numpy())]
    if pandas and isinstance(value, pandas.DataFrame):
        columns = [inner(value.iloc[:, i].to_numpy()) for i in range(value.shape[1])]
        return ["frame", inner(value.index.tolist()), inner(value.columns.tolist()), columns]
    if isinstance(value, (bool, int, float, str)):  # a subclass of theirs
        return next(kind(value) for kind in (int, float, str) if isinstance(value, kind))
    if isinstance(value, range):
        return ["range", value.start, value.stop, value.step]
    if isinstance(value, (list, tuple)):
        return ["list" if isinstance(value, list) else "tuple", *map(inner, value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
        return ["record", *([name, inner(part)] for name, part in fields if part is not None)]
    if isinstance(value, SimpleNamespace):
        return ["record", *([name, inner(part)] for name, part in vars(value).items())]
    if isinstance(value, Mapping):
        return ["dict", *([inner(key), inner(part)] for key, part in value.items())]
    if (found := special(value)) is None:
        raise Unsendable("numbers, text, lists, dicts, arrays and tables can be compared, and this is none of them")
    return ["special", *found]


def unpack(message: bytes, special=None):
    """The value that was packed. Unsendable if the bytes are anything else. `special(*plain)` undoes pack's."""
    text, _, rest = message.partition(b"\0")
    if len(text) > LONGEST:
        raise Unsendable("lists as long as this are arrays")
    try:
        return _value(json.loads(text), memoryview(rest), [0], special)
    except Unsendable:
        raise
    except Exception as error:  # whatever is in it, it is no message
        raise Unsendable(f"this is no message: {type(error).__name__}") from error


def _value(plain, rest: memoryview, at: list, special):
    def inner(part):
        return _value(part, rest, at, special)

    def take(size: int):
        at[0] += size
        if size < 0 or at[0] > len(rest):
            raise Unsendable("a message that is too short")
        return rest[at[0] - size : at[0]]

    def array(dtype: str, shape: list) -> np.ndarray:
        if dtype not in DTYPES:
            raise Unsendable("an array of another type")
        count = int(np.prod(shape, dtype=object))
        numbers = np.frombuffer(take(count * np.dtype(dtype).itemsize), dtype)
        return numbers.reshape(shape).copy()

    if not isinstance(plain, list):
        return plain
    kind, *parts = plain
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(map(inner, parts))
    if kind == "dict":
        return {inner(key): inner(part) for key, part in parts}
    if kind == "range":
        if len(found := range(*parts)) > LONGEST:
            raise Unsendable("ranges as long as this are arrays")
        return found
    if kind == "array":
        if parts[0][0] in ("list", "tuple"):
            return np.array(inner(parts[0]))
        return array(*parts[0])
    if kind == "scalar":
        return inner(parts[0]) if parts[0][0] not in DTYPES else array(*parts[0])[()]
    if kind == "torch":
        import torch

        dtype, shape, wants_gradient = parts
        if dtype not in TORCH:
            raise Unsendable("a tensor of another type")
        size = int(np.prod(shape, dtype=object)) * getattr(torch, dtype).itemsize
        raw = torch.from_numpy(np.frombuffer(take(size), np.uint8).copy())
        tensor = (raw.view(getattr(torch, dtype)) if size else torch.empty(0, dtype=getattr(torch, dtype))).reshape(
            shape
        )
        return tensor.requires_grad_() if wants_gradient is True and tensor.is_floating_point() else tensor
    if kind == "keras":
        from companion.quiet import keras

        return keras.ops.convert_to_tensor(array(*parts[0]))
    if kind == "series":
        import pandas

        return pandas.Series(inner(parts[1]), index=inner(parts[0]))
    if kind == "frame":
        import pandas

        index, columns = inner(parts[0]), inner(parts[1])
        frame = pandas.DataFrame({i: inner(column) for i, column in enumerate(parts[2])}, index=index)
        frame.columns = columns
        return frame
    if kind == "record":
        if any(name.startswith("_") for name, _ in parts):
            raise Unsendable("a record of something else")
        return Record(**{name: inner(part) for name, part in parts})
    if kind == "special" and special:
        return special(*parts)
    raise Unsendable("a value of an unknown kind")
