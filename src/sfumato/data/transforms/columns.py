"""A table whose columns are of different kinds, with categories and gaps, as numbers of a model and back."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from ...core import ValueGrid
from ...errors import InputError
from .. import plain
from ..column import Column
from .base import Transform

SPREAD = 2**0.5
"""What is added to the number of the category that a row has. Two categories are at a distance of 2, four times the
standard deviation of two that are equally frequent; the other columns have a standard deviation of 1."""

_MOST_SHOWN = 60  # columns that are described


@dataclass(frozen=True)
class Columns(Transform):
    """One map per column, described in ``Column``.

    A category becomes one number per name: ``SPREAD`` for the one that a row has, 0 for the others. Back, the largest
    number says the category, so each result is one that the column has. A gap becomes one more number, ``SPREAD`` where
    the value is missing, and back it is a gap beyond half of that; instead of the value stands 0, the mean. A gap
    among categories is one more category.

    Arguments:
        columns: the columns, in the order of the table.
        label: name of the column of classes, which is no part of a sample; None without one.
        label_at: its position in the table.

    Raises:
        InputError: no columns, or two of one name.
    """

    columns: tuple[Column, ...]
    label: str | None = None
    label_at: int = 0

    kind: ClassVar[str] = "columns"
    fields: ClassVar[plain.Fields] = {
        "columns": ("a list of columns", plain.several(Column.from_dict)),
        "label": ("a string or null", plain.optional(plain.text)),
        "label_at": ("a whole number", plain.whole),
    }

    def __post_init__(self) -> None:
        plain.require(len(self.columns) > 0, "columns must not be empty")

    def check_shape(self, shape: tuple[int, ...]) -> None:
        plain.require(shape == (len(self.columns),), "columns must have one entry per feature of a vector")

    def model_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (sum(column.width for column in self.columns),)

    @cached_property
    def starts(self) -> list[int]:
        """Where the numbers of each column begin in model units."""
        found, at = [], 0
        for column in self.columns:
            found.append(at)
            at += column.width
        return found

    @property
    def categories(self) -> list[int]:
        """The columns that are categories."""
        return [j for j, column in enumerate(self.columns) if column.kind == "category"]

    @property
    def simple(self) -> list[int]:
        """The columns that have one number, besides the gaps."""
        return [j for j, column in enumerate(self.columns) if column.kind != "category"]

    def encode(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*m"]:
        wide = x.double()
        gaps = wide.isnan()
        found = wide.new_zeros(*x.shape[:-1], *self.model_shape(x.shape[-1:]))
        simple = self.simple
        found[..., [self.starts[j] for j in simple]] = self._forth(wide[..., simple]).nan_to_num(nan=0.0)
        for j in simple:
            if self.columns[j].missing:
                found[..., self.starts[j] + 1] = SPREAD * gaps[..., j]
        for j in self.categories:
            count = self.columns[j].width
            index = torch.where(gaps[..., j], count - 1, wide[..., j]).long().clamp(0, count - 1)
            hot = torch.nn.functional.one_hot(index, count)
            found[..., self.starts[j] : self.starts[j] + count] = SPREAD * hot.to(found)
        return found.to(x.dtype)

    def per_feature(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """In model units, and of a category its index from -1 to 1; a gap stays one."""
        found = x.double().clone()
        found[..., self.simple] = self._forth(found[..., self.simple])
        for j in self.categories:
            half = max(len(self.columns[j].names) - 1, 1) / 2
            found[..., j] = found[..., j] / half - 1
        return found.to(x.dtype)

    def decode(self, x: Float[Tensor, "*m"]) -> Float[Tensor, "*s"]:
        return self._decoded(x, clipped=True)

    def decode_unclipped(self, x: Float[Tensor, "*m"]) -> Float[Tensor, "*s"]:
        return self._decoded(x, clipped=False)

    def _decoded(self, x: Tensor, clipped: bool) -> Tensor:
        wide = x.double()
        found = wide.new_zeros(*x.shape[:-1], len(self.columns))
        simple = self.simple
        values = self._back(wide[..., [self.starts[j] for j in simple]])
        if clipped:
            ends = [(column.low, column.high) for column in self.columns if column.kind != "category"]
            low, high = (torch.tensor(each, dtype=wide.dtype, device=x.device) for each in _ends(ends))
            values = torch.minimum(torch.maximum(values, low), high)
        found[..., simple] = values
        for j in simple:
            column = self.columns[j]
            if column.levels:
                levels = torch.tensor(column.levels, dtype=wide.dtype, device=x.device)
                found[..., j] = levels[(found[..., j, None] - levels).abs().argmin(-1)]
            if column.missing:
                found[..., j] = found[..., j].masked_fill(wide[..., self.starts[j] + 1] > SPREAD / 2, float("nan"))
        for j in self.categories:
            column, start = self.columns[j], self.starts[j]
            index = wide[..., start : start + column.width].argmax(-1)
            found[..., j] = index.to(wide).masked_fill(index == len(column.names), float("nan"))
        return found.to(x.dtype)

    def _forth(self, x: Tensor) -> Tensor:
        shift, scale, skewed, centre, width = self._numbers(x)
        warped = torch.where(skewed, torch.asinh((x - centre) / width), x)
        out: Tensor = (warped - shift) / scale
        return out

    def _back(self, z: Tensor) -> Tensor:
        shift, scale, skewed, centre, width = self._numbers(z)
        inner = z * scale + shift
        return torch.where(skewed, centre + width * torch.sinh(torch.where(skewed, inner, 0.0)), inner)

    def _numbers(self, like: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale, whether it is skewed, centre and width of each simple column."""
        columns = [self.columns[j] for j in self.simple]
        rows = [(c.shift, c.scale, c.skewed is not None, *(c.skewed or (0.0, 1.0))) for c in columns]
        table = torch.tensor(rows, dtype=torch.float64, device=like.device).reshape(len(rows), 5)
        shift, scale, skewed, centre, width = table.unbind(1)
        return shift, scale, skewed > 0, centre, width

    def log_det(self, x: Float[Tensor, "b *m"]) -> Float64[Tensor, "b"]:
        wide = x.double()[..., [self.starts[j] for j in self.simple]]
        shift, scale, skewed, _, width = self._numbers(wide)
        inner = torch.where(skewed, wide * scale + shift, 0.0)
        slope = torch.log(scale) + torch.where(skewed, torch.log(width * torch.cosh(inner)), 0.0)
        return slope.sum(-1)

    @property
    def bounds(self) -> tuple[float, float] | None:
        return None  # each column has its own

    def model_bounds(self) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]] | None:
        return None

    @property
    def grids(self) -> tuple[ValueGrid | None, ...]:
        return (None,)

    @property
    def unit_scale(self) -> float | None:
        return None

    @property
    def has_density(self) -> bool:
        return all(column.has_density for column in self.columns)

    @property
    def gaps(self) -> tuple[bool, ...]:
        return tuple(column.missing > 0 for column in self.columns)

    def level_index(self, values: Shaped[Tensor, "*s"]) -> Int64[Tensor, "*s"] | None:
        return None

    def round_to_levels(self, values: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        wide = values.double().clone()
        for j, column in enumerate(self.columns):
            places = 0 if column.kind in {"whole", "date"} else column.decimals
            if places is not None:
                wide[..., j] = wide[..., j].round(decimals=places)
        return wide.to(values.dtype)

    def check_values(self, values: Shaped[Tensor, "n *s"], what: str) -> None:
        for j, column in enumerate(self.columns):
            found = values[:, j][~values[:, j].isnan()].double()
            known = torch.arange(len(column.names)).to(found) if column.kind == "category" else None
            if column.levels:
                known = torch.tensor(column.levels, dtype=torch.float64, device=found.device)
            if known is not None and bool((odd := (found[:, None] - known).abs().amin(1) > 1e-6).any()):
                raise InputError(
                    f"{what}: the value {float(found[odd][0]):g} in the column '{column.name}' is none of the "
                    f"{len(known)} that the model was trained on; remove those rows"
                )

    def range_in_words(self) -> str:
        kinds = [column.kind for column in self.columns]
        return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))

    def describe(self) -> list[tuple[str, str]]:
        rows = [(f"column {column.name}", column.describe()) for column in self.columns[:_MOST_SHOWN]]
        more = len(self.columns) - len(rows)
        return [*rows, *([("more columns", str(more))] if more else [])]

    def to_dict(self) -> dict[str, Any]:
        columns = [column.to_dict() for column in self.columns]
        return {"kind": self.kind, "columns": columns, "label": self.label, "label_at": self.label_at}


def _ends(pairs: list[tuple[float | None, float | None]]) -> tuple[list[float], list[float]]:
    """The lower and the upper ends, infinite where there are none."""
    low = [-float("inf") if pair[0] is None else pair[0] for pair in pairs]
    return low, [float("inf") if pair[1] is None else pair[1] for pair in pairs]
