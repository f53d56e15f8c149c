"""What the coursework's checks say: one sentence that tells what is wrong, what would be right, and the usual reason.

Values are arrays of NumPy, tensors of PyTorch or Keras, lists or numbers. Each check raises AssertionError.
"""

import numpy as np


def check_shape(name: str, value, shape: tuple, hint: str = "") -> None:
    """Is there a value, and does it have this shape?"""
    found = to_numpy(name, value).shape
    assert found == tuple(shape), _sentence(f"{name} has the shape {found}, and {tuple(shape)} is right", hint)


def check_close(name: str, value, expected, atol: float = 1e-5, hint: str = "") -> None:
    """Is every number within atol of the expected one? The sentence shows the number that is farthest off."""
    expected = to_numpy("what is expected", expected)
    check_shape(name, value, expected.shape, hint)
    value = to_numpy(name, value).astype(float)
    with np.errstate(invalid="ignore"):  # inf - inf
        off = np.nan_to_num(np.abs(value - expected), nan=np.inf) * (value != expected)
    if not (off > atol).any():
        return
    worst = np.unravel_index(off.argmax(), off.shape)
    place = f" at [{', '.join(map(str, worst))}]" if off.ndim else ""
    count = f" ({(off > atol).sum()} of {off.size} numbers differ)" if off.size > 1 else ""
    raise AssertionError(
        _sentence(f"{name}{place} is {value[worst]:.6g}, and {expected[worst]:.6g} is right{count}", hint)
    )


def to_numpy(name: str, value) -> np.ndarray:
    """The value's numbers. AssertionError, with one sentence, if it has none."""
    assert value is not None, f"{name} is None: is a `return` missing?"
    if hasattr(value, "detach"):  # a tensor of PyTorch, which may want a gradient or lie on a GPU
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # rows of different lengths
        array = np.array(None)
    assert array.dtype.kind in "biuf", f"{name} must be numbers in an array, not {type(value).__name__}."
    return array


def remote(function):
    """Mark a function of a test that has to run beside the student's answer, as it makes what cannot be sent: a model.

    `make grade` takes it to the process that runs the student's code, where it finds the assignment's own names and the
    answers. It gets plain values and returns plain values (tools/grading/referee.py). In a notebook nothing changes.
    """
    return function


def _sentence(what: str, hint: str) -> str:
    return f"{what}. {hint}".strip()
