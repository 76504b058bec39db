"""Integers are integers, of whatever library, and nothing else is one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.core import SeededNoise
from sfumato.errors import InputError
from sfumato.numerics.integers import optional, whole
from sfumato.numerics.random import derive

sys.path.insert(0, str(Path(__file__).parent))
import integer_calls

THREE = (3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3, dtype=torch.int32))
NONE = (None, 1.5, 2.0, "a", "3", True, np.bool_(True), np.float32(3), torch.tensor(3.0), torch.tensor(True))
SEVERAL = (torch.tensor([3]), np.array([3]), torch.tensor([1, 2]), [3], (3,))


@pytest.mark.parametrize("value", THREE)
def test_every_integer_is_one(value: Any) -> None:
    assert type(whole("seed", value)) is int
    assert whole("seed", value) == optional("seed", value) == 3
    assert derive(value, "samples") == derive(3, "samples")
    assert SeededNoise.samples(value, value, value).keys.equal(SeededNoise.samples(3, 3, 3).keys)


@pytest.mark.parametrize("value", [*NONE, *SEVERAL])
def test_nothing_else_is_one(value: Any) -> None:
    with pytest.raises(InputError, match=r"^seed: .* is not a whole number$"):
        whole("seed", value)


def test_the_smallest_is_named() -> None:
    with pytest.raises(InputError, match=r"^steps: 0 is not allowed; give a whole number of at least 1$"):
        whole("steps", 0, 1)
    with pytest.raises(InputError, match=r"^steps: 1.5 is not a whole number of at least 1$"):
        whole("steps", 1.5, 1)
    assert optional("steps", None, 1) is None


@pytest.mark.parametrize("name", integer_calls.CALLS)
def test_every_function_takes_integers_of_other_libraries(name: str) -> None:
    call = integer_calls.CALLS[name]
    for value in (np.int64(3), torch.tensor(3)):
        call(value)


@pytest.mark.parametrize("name", integer_calls.FIELDS)
def test_so_do_fields(name: str) -> None:
    assert integer_calls.FIELDS[name](3) == integer_calls.FIELDS[name](3)


def test_no_function_takes_anything_else() -> None:
    program = [sys.executable, integer_calls.__file__]
    found = subprocess.run(program, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
