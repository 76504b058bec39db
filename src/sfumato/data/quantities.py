"""Numbers that samples are given with, such as a temperature: they condition a model and are not part of a sample."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from ..errors import InputError
from . import plain


@dataclass(frozen=True)
class Quantity:
    """One number that samples are given with.

    Arguments:
        name: its name.
        mean: over the samples that have it.
        deviation: standard deviation over the same, above 0.

    Raises:
        InputError: numbers that are not finite, or a deviation of 0.
    """

    name: str
    mean: float
    deviation: float

    def __post_init__(self) -> None:
        plain.require(
            math.isfinite(self.mean) and 0 < self.deviation < math.inf,
            f"the mean of condition '{self.name}' must be finite, and its deviation above 0",
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"name": self.name, "mean": self.mean, "deviation": self.deviation}

    @classmethod
    def from_dict(cls, data: object) -> "Quantity":
        """What ``to_dict`` wrote. Raises InputError for anything else."""
        return cls(**plain.read_fields(data, _FIELDS, "conditions."))


_FIELDS: plain.Fields = {
    "name": ("a string", plain.text),
    "mean": ("a number", plain.number),
    "deviation": ("a number", plain.number),
}


def quantities_of(names: Sequence[str], values: Float64[np.ndarray, "n k"]) -> tuple[Quantity, ...]:
    """The quantities with these names; NaN is a number that is not given.

    Raises:
        InputError: infinite numbers, a name that is there twice, or a quantity that does not vary.
    """
    if len(set(names)) < len(names):
        raise InputError(f"data.conditions: names a condition twice ({', '.join(names)}); leave one out")
    found = []
    for name, column in zip(names, values.T, strict=True):
        if np.isinf(column).any():
            raise InputError(f"data.conditions: '{name}' has infinite values; repair them or remove those samples")
        known = column[~np.isnan(column)]
        if not len(known) or not (deviation := float(known.std())) > 1e-12 * float(np.abs(known).max()):
            why = "is given for no sample" if not len(known) else f"is {known[0]:g} in all samples that have it"
            raise InputError(f"data.conditions: '{name}' {why}, so it says nothing; leave it out")
        found.append(Quantity(name, float(known.mean()), deviation))
    return tuple(found)


def standardised(quantities: Sequence[Quantity], values: Float64[Tensor, "n k"]) -> Float32[Tensor, "n k"]:
    """The numbers less their mean, in standard deviations; NaN stays NaN."""
    mean, deviation = _moments(quantities)
    return ((values - mean) / deviation).float()


def in_units(quantities: Sequence[Quantity], standard: Float32[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
    """The numbers whose ``standardised`` values these are, to the six digits that float32 holds."""
    mean, deviation = _moments(quantities)
    values = standard.double().cpu() * deviation + mean
    # What was asked for as 0.1 came through float32, and is 0.1 again.
    return torch.tensor([[float(f"{x:.6g}") for x in row] for row in values.tolist()], dtype=torch.float64)


def _moments(quantities: Sequence[Quantity]) -> tuple[Float64[Tensor, "k"], Float64[Tensor, "k"]]:
    """Means and standard deviations."""
    mean, deviation = zip(*((each.mean, each.deviation) for each in quantities), strict=True)
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(deviation, dtype=torch.float64)


def asked(quantities: Sequence[Quantity], given: Mapping[str, float]) -> list[float]:
    """The numbers that are asked for, in the order of the quantities; NaN for those that are not.

    Raises:
        InputError: an unknown name, which is answered with the nearest, or a number that is not finite.
    """
    names = [each.name for each in quantities]
    for name, value in given.items():
        if name not in names:
            near = get_close_matches(name, names, 1, 0)
            raise InputError(
                f"condition '{name}' is not known; did you mean {near[0]}? There are {', '.join(names)}"
                if near
                else f"condition '{name}' is not known; there are {', '.join(names)}"
            )
        if not math.isfinite(value):
            raise InputError(f"condition '{name}' is {value:g}; give a finite number, or leave it out")
    return [float(given.get(name, math.nan)) for name in names]
