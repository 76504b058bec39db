"""The axis along which a signal is sampled: wavelengths, times, positions."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from . import plain

_NAME_AND_UNIT = re.compile(r"(?P<name>.*?)\s*[\[(](?P<unit>[^\[\]()]*)[\])]\s*")


@dataclass(frozen=True)
class Axis:
    """Where the values of a signal lie.

    Arguments:
        values: one position per value of a signal, strictly increasing or strictly decreasing.
        name: such as "wavelength", or empty.
        unit: such as "nm", or empty.

    Raises:
        InputError: positions that are not finite or not in order.
    """

    values: tuple[float, ...]
    name: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        plain.require(all(map(math.isfinite, self.values)), "axis.values must be finite")
        plain.require(is_ordered(self.values), "axis.values must be strictly increasing or strictly decreasing")

    @classmethod
    def named(cls, values: tuple[float, ...], key: str) -> "Axis":
        """The axis whose name and unit are written as "wavelength [nm]", "wavelength (nm)" or "wavelength"."""
        found = _NAME_AND_UNIT.fullmatch(key)
        return cls(values, key.strip()) if found is None else cls(values, found["name"], found["unit"].strip())

    @property
    def label(self) -> str:
        """Name and unit for a figure: "wavelength (nm)"."""
        return " ".join(filter(None, [self.name or "position", f"({self.unit})" if self.unit else ""]))

    def to_dict(self) -> dict[str, Any]:
        """The axis as plain JSON values."""
        return {"values": list(self.values), "name": self.name, "unit": self.unit}

    @classmethod
    def from_dict(cls, data: object) -> "Axis":
        """Return the axis that ``to_dict`` wrote.

        Raises:
            InputError: unknown, missing or mistyped keys, or values that are not in order.
        """
        return cls(**plain.read_fields(data, _FIELDS, "axis."))


def is_ordered(values: Sequence[float]) -> bool:
    """Whether positions are strictly increasing or strictly decreasing, which NaN never are."""
    steps = list(pairwise(values))
    return all(before < after for before, after in steps) or all(before > after for before, after in steps)


_FIELDS: plain.Fields = {
    "values": ("a list of numbers", plain.several(plain.number)),
    "name": ("a string", plain.text),
    "unit": ("a string", plain.text),
}
