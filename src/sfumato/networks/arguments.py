"""Checks of the networks' arguments and inputs.

Each function returns its argument if it is valid, so that a constructor checks where it stores.
"""

import math
from collections.abc import Sequence
from typing import SupportsIndex

from jaxtyping import Float
from torch import Tensor

from sfumato.errors import InputError
from sfumato.numerics.integers import whole


def positive(name: str, value: SupportsIndex) -> int:
    """``value`` as an int if it is an integer of at least 1, else ``InputError``."""
    number = whole(name, value)
    if number < 1:
        raise InputError(f"{name}={number} is not allowed: give an integer of at least 1")
    return number


def positives(name: str, values: Sequence[SupportsIndex]) -> tuple[int, ...]:
    """``values`` as ints if they are one or more integers of at least 1, else ``InputError``."""
    given = tuple(whole(name, value) for value in values)
    if not given or min(given) < 1:
        raise InputError(f"{name}={given} is not allowed: give one or more integers of at least 1")
    return given


def image_or_signal(shape: Sequence[SupportsIndex]) -> tuple[int, ...]:
    """``shape`` as ints if it is that of a signal, (C, L), or of an image, (C, H, W), else ``InputError``."""
    given = positives("shape", shape)
    if len(given) not in (2, 3):
        raise InputError(
            f"shape={given} is neither a signal nor an image: give (channels, length) or (channels, height, width), "
            "or use an MLP, which takes any shape"
        )
    return given


def even(name: str, value: SupportsIndex) -> int:
    """``value`` as an int if it is an even integer of at least 4, else ``InputError``."""
    number = positive(name, value)
    if number % 2 or number < 4:
        raise InputError(f"{name}={number} is not allowed: give an even number of at least 4")
    return number


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
