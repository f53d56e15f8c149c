"""The coursework's checks: right answers pass in silence, wrong ones get one sentence that helps."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from companion.checks import check_close, check_shape
from companion.quiet import keras

KINDS = {
    "NumPy": np.asarray,
    "PyTorch": lambda x: torch.tensor(x, dtype=torch.float32, requires_grad=True),
    "Keras": lambda x: keras.ops.convert_to_tensor(np.asarray(x, np.float32)),
    "Keras variable": lambda x: keras.Variable(np.asarray(x, np.float32)),
    "a list": lambda x: np.asarray(x).tolist(),
}
VALUES = np.arange(6.0).reshape(2, 3)


def sentence(check, *arguments, **more) -> str:
    with pytest.raises(AssertionError) as error:
        check(*arguments, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_can_pass_and_can_fail(kind):
    check_shape("maps", KINDS[kind](VALUES), (2, 3))
    check_close("maps", KINDS[kind](VALUES), VALUES)
    wrong = VALUES.copy()
    wrong[1, 2] = 9
    said = sentence(check_close, "maps", KINDS[kind](wrong), KINDS[kind](VALUES), hint="Is it the maximum?")
    assert said == "maps at [1, 2] is 9, and 5 is right (1 of 6 numbers differ). Is it the maximum?"
    said = sentence(check_shape, "maps", KINDS[kind](VALUES), (3, 2), "Transposed?")
    assert said == "maps has the shape (2, 3), and (3, 2) is right. Transposed?"


def test_one_number():
    check_close("score", np.float32(0.5), 0.5)
    assert sentence(check_close, "score", 1, 2.0) == "score is 1, and 2 is right."


def test_a_tolerance_is_kept():
    check_close("score", 1.001, 1.0, atol=1e-2)
    sentence(check_close, "score", 1.001, 1.0, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_never_close(bad):
    said = sentence(check_close, "maps", [1.0, bad], [1.0, 2.0])
    assert said.startswith("maps at [1] is")
    check_close("maps", [-np.inf, 0.0], [-np.inf, 0.0])


def test_close_numbers_of_another_shape_are_not_broadcast():
    assert "shape" in sentence(check_close, "maps", [[1.0], [1.0]], [1.0, 1.0])


def test_no_value_and_no_numbers():
    assert sentence(check_shape, "maps", None, (2,)) == "maps is None: is a `return` missing?"
    assert sentence(check_close, "maps", "abc", [1.0]) == "maps must be numbers in an array, not str."
    assert sentence(check_close, "maps", [[1.0], [1.0, 2.0]], [1.0]) == "maps must be numbers in an array, not list."


def test_importing_it_loads_no_framework():
    code = "import companion.checks, sys; print(*{'torch', 'tensorflow', 'keras', 'pandas'} & set(sys.modules))"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
