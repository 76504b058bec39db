"""A column of a table: what its numbers mean, and where they lie in model units."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from . import plain

Kind = Literal["number", "whole", "ordinal", "category", "date"]
Type = Literal["float", "int", "bool", "text", "date"]

SHOWN = 8
"""Values of a column that are shown, and the last one where they have an order."""

EXACT = 2**24
"""The largest of the whole numbers that float32 has all of."""

FIRST_DAY = "1970-01-01"
"""The date whose number is 0."""


@dataclass(frozen=True)
class Column:
    """A column.

    A number in data units is the number itself, the index of a category among ``names``, or days since ``FIRST_DAY``;
    what is missing is NaN. In model units a category is one number per name, and any other column one number

        (w(x) - shift) / scale,     w(x) = x, or asinh((x - centre) / width) where the column is ``skewed``

    each followed by one that says whether the value is missing, where some are.

    Arguments:
        name: of the column.
        kind: what its values are; "ordinal" has a few values in an order, "date" whole days.
        type: how they are written.
        names: of the categories, or of the values of an ordinal column of text; else empty.
        levels: the values of an ordinal column in data units, ascending; else empty.
        low: the smallest value of a number, whole or date; None for the others.
        high: the largest value, likewise.
        decimals: how many decimal places a number has at most, where they are few.
        missing: the share of rows without a value.
        skewed: (centre, width), or None.
        shift: as above; unused for categories.
        scale: as above; unused for categories.

    Raises:
        InputError: arguments that contradict each other.
    """

    name: str
    kind: Kind
    type: Type
    names: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    decimals: int | None = None
    missing: float = 0.0
    skewed: tuple[float, ...] | None = None
    shift: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        where = f"the column '{self.name}'"
        plain.require(self.kind in get_args(Kind), f"{where}: kind must be one of {', '.join(get_args(Kind))}")
        plain.require(self.type in get_args(Type), f"{where}: type must be one of {', '.join(get_args(Type))}")
        plain.require(self.kind != "category" or len(self.names) > 0, f"{where}: a category needs names")
        ordered = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        plain.require((self.kind == "ordinal") == (len(self.levels) > 0) and ordered, f"{where}: wrong levels")
        plain.require(len(set(self.names)) == len(self.names), f"{where}: names must differ")
        numbers = (*self.levels, self.shift, self.scale, self.missing, *(self.skewed or ()))
        plain.require(all(map(math.isfinite, numbers)), f"{where}: numbers must be finite")
        plain.require(self.scale > 0, f"{where}: scale must be positive")
        plain.require(0 <= self.missing < 1, f"{where}: missing must be at least 0 and below 1")
        plain.require(
            self.skewed is None or (len(self.skewed) == 2 and self.skewed[1] > 0),
            f"{where}: skewed must be null, or a centre and a positive width",
        )
        if self.kind in {"number", "whole", "date"}:
            bounded = self.low is not None and self.high is not None and -math.inf < self.low <= self.high < math.inf
            plain.require(bounded, f"{where}: low and high must be finite and in order")

    @property
    def width(self) -> int:
        """How many numbers stand for it in model units."""
        return (len(self.names) if self.kind == "category" else 1) + (self.missing > 0)

    @property
    def has_density(self) -> bool:
        """Whether its values have a density; those of the others have probabilities."""
        return self.missing == 0 and self.kind in {"number", "whole", "date"}

    def describe(self) -> str:
        """The column in words: "whole, 1 to 6, 2.0 % missing"."""
        what: str = self.kind
        if self.kind in {"category", "ordinal"}:
            shown = self.names or tuple(day(x) if self.type == "date" else f"{x:g}" for x in self.levels)
            ends = [", ..."] * (len(shown) > SHOWN) + [f", {shown[-1]}"] * (len(shown) > SHOWN and bool(self.levels))
            what += f", {len(shown)} values: " + ", ".join(shown[:SHOWN]) + "".join(ends)
        elif self.low is not None and self.high is not None:
            ends = [self._written(end) for end in (self.low, self.high)]
            what += f", {ends[0]} to {ends[1]}" + (", skewed" if self.skewed else "")
        return what + (f", {100 * self.missing:.1f} % missing" if self.missing else "")

    def _written(self, end: float) -> str:
        return day(end) if self.kind == "date" else f"{round(end)}" if self.kind == "whole" else f"{end:.7g}"

    def to_dict(self) -> dict[str, Any]:
        """The column as plain JSON values."""
        fields = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}

    @classmethod
    def from_dict(cls, data: object) -> "Column":
        """The column that ``to_dict`` wrote. Raises InputError as ``plain.read_fields`` does."""
        return cls(**plain.read_fields(data, _FIELDS, "transform.columns."))


def day(number: float) -> str:
    """The date of a number of days, as YYYY-MM-DD."""
    import numpy as np

    return str(np.datetime64(FIRST_DAY, "D") + round(number))


_FIELDS: plain.Fields = {
    "name": ("a string", plain.text),
    "kind": ("a string", plain.text),
    "type": ("a string", plain.text),
    "names": ("a list of strings", plain.several(plain.text)),
    "levels": ("a list of numbers", plain.several(plain.number)),
    "low": ("a number or null", plain.optional(plain.number)),
    "high": ("a number or null", plain.optional(plain.number)),
    "decimals": ("a whole number or null", plain.optional(plain.whole)),
    "missing": ("a number", plain.number),
    "skewed": ("a list of two numbers or null", plain.optional(plain.several(plain.number))),
    "shift": ("a number", plain.number),
    "scale": ("a number", plain.number),
}
