"""Checks of the networks' arguments and inputs.

Each function returns its argument if it is valid, so that a constructor checks where it stores.
"""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from sfumato.errors import InputError


def positive(name: str, value: int) -> int:
    """``value`` if it is an integer of at least 1, else ``InputError``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name}={value!r} is not allowed: give an integer of at least 1")
    return value


def positives(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """``values`` as a tuple if they are one or more integers of at least 1, else ``InputError``."""
    given = tuple(values)
    if not given or any(not isinstance(v, int) or isinstance(v, bool) or v < 1 for v in given):
        raise InputError(f"{name}={given} is not allowed: give one or more integers of at least 1")
    return given


def even(name: str, value: int) -> int:
    """``value`` if it is an even integer of at least 4, else ``InputError``."""
    if positive(name, value) % 2 or value < 4:
        raise InputError(f"{name}={value} is not allowed: give an even number of at least 4")
    return value


def probability(name: str, value: float) -> float:
    """``value`` if it lies in [0, 1), else ``InputError``."""
    if not 0.0 <= value < 1.0:
        raise InputError(f"{name}={value!r} is not allowed: give a number in [0, 1), 0 for none")
    return value


def positive_real(name: str, value: float) -> float:
    """``value`` if it is finite and above 0, else ``InputError``."""
    if not (math.isfinite(value) and value > 0.0):
        raise InputError(f"{name}={value!r} is not allowed: give a finite number above 0")
    return value


def fits(x: Float[Tensor, "b *s"], shape: tuple[int, ...]) -> None:
    """Raises ``InputError`` unless the samples ``x`` have the shape that the network was built for."""
    if tuple(x.shape[1:]) != shape:
        raise InputError(
            f"x of shape {tuple(x.shape)} does not fit a network of shape={shape}: give x of shape (B, *shape), "
            f"or build the network with shape={tuple(x.shape[1:])}"
        )
