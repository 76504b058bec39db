"""A shift and a scale, for all values or per feature."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from ...core import ValueGrid
from ...errors import InputError
from .. import plain
from .base import Transform

MOST_LEVELS = 2**20
"""Most levels of a value: beyond, float32 in [-1, 1] confuses neighbouring levels after encoding and decoding."""

_OFF_LEVEL = 1e-3  # of a step: far above the rounding of float32, far below a value between two levels
_SHOWN = 12  # numbers of a list that are written out


@dataclass(frozen=True)
class Affine(Transform):
    """``x_model = (x - shift) / scale``.

    Arguments:
        shift: one entry, or one per feature of a vector.
        scale: likewise, positive.
        low: smallest value in data units, or None where the data is not bounded.
        high: largest value, or None.
        levels: number of equally spaced values from ``low`` to ``high``, or None for continuous data.

    Raises:
        InputError: arguments that contradict each other.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    levels: int | None = None

    kind: ClassVar[str] = "affine"
    fields: ClassVar[plain.Fields] = {
        "shift": ("a list of numbers", plain.several(plain.number)),
        "scale": ("a list of numbers", plain.several(plain.number)),
        "low": ("a number or null", plain.optional(plain.number)),
        "high": ("a number or null", plain.optional(plain.number)),
        "levels": ("a whole number or null", plain.optional(plain.whole)),
    }

    def __post_init__(self) -> None:
        if self.low is None or self.high is None:
            plain.require(self.low is self.high is None, "low and high must both be numbers or both be null")
            plain.require(self.levels is None, "levels needs low and high")
        else:
            plain.require(math.isfinite(self.low) and math.isfinite(self.high), "low and high must be finite")
            plain.require(self.low < self.high, "low must be below high")
            within = self.levels is None or 2 <= self.levels <= MOST_LEVELS
            plain.require(within, f"levels must be 2 to {MOST_LEVELS}")
        plain.require(
            len(self.shift) == len(self.scale) >= 1,
            "shift and scale must have one entry, or one for each feature of a vector",
        )
        plain.require(all(map(math.isfinite, self.shift)), "shift must be finite")
        plain.require(all(0 < scale < math.inf for scale in self.scale), "scale must be finite and positive")

    def check_shape(self, shape: tuple[int, ...]) -> None:
        plain.require(
            len(self.shift) in {1, shape[0] if len(shape) == 1 else 1},
            "shift and scale must have one entry, or one for each feature of a vector",
        )

    def model_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def encode(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        encoded: Tensor = (x - _per_feature(self.shift, x)) / _per_feature(self.scale, x)
        return encoded

    def decode(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        decoded = self.decode_unclipped(x)
        if self.low is None or self.high is None:
            return decoded
        return decoded.clamp(self.low, self.high)

    def decode_unclipped(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        return x * _per_feature(self.scale, x) + _per_feature(self.shift, x)

    def log_det(self, x: Float[Tensor, "b *s"]) -> Float64[Tensor, "b"]:
        nats = 0.0
        if self.levels is None:
            nats = sum(math.log(s) for s in self.scale) * (math.prod(x.shape[1:]) if len(self.scale) == 1 else 1)
        return torch.full((len(x),), nats, dtype=torch.float64, device=x.device)

    @property
    def bounds(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)

    def model_bounds(self) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]] | None:
        if self.bounds is None:
            return None
        shape = () if len(self.shift) == 1 else (len(self.shift),)
        low, high = (self.encode(torch.full(shape, end)) for end in self.bounds)
        return low, high

    @property
    def grids(self) -> tuple[ValueGrid | None, ...]:
        if self.levels is None:
            return (None,)
        low, step = self._low_and_step()
        return tuple(
            ValueGrid((low - shift) / scale, step / scale, self.levels)
            for shift, scale in zip(self.shift, self.scale, strict=True)
        )

    @property
    def unit_scale(self) -> float | None:
        return self.scale[0] if len(self.scale) == 1 else None

    def level_index(self, values: Shaped[Tensor, "*s"]) -> Int64[Tensor, "*s"] | None:
        if self.levels is None:
            return None
        low, step = self._low_and_step()
        return ((values.double() - low) / step).round().long()

    def round_to_levels(self, values: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        if self.levels is None:
            return values
        low, step = self._low_and_step()
        return ((values - low) / step).round() * step + low

    def check_values(self, values: Shaped[Tensor, "n *s"], what: str) -> None:
        if self.low is None or self.high is None:
            return
        lowest, highest = float(values.min()), float(values.max())
        limits = f"{self.low:g} to {self.high:g}"
        if lowest < self.low or highest > self.high:
            raise InputError(
                f"{what}: values from {lowest:g} to {highest:g}, but the model was trained on {limits}; "
                "rescale the data"
            )
        if self.levels is not None:
            position = (values.double() - self.low) / (self.high - self.low) * (self.levels - 1)
            off = (position - position.round()).abs() > _OFF_LEVEL
            if off.any():
                raise InputError(
                    f"{what}: values such as {float(values[off][0]):g} lie between the {self.levels} levels from "
                    f"{limits} that the model was trained on; round the data to these levels"
                )

    def range_in_words(self) -> str:
        if self.low is None or self.high is None:
            return "not bounded"
        return f"from {self.low:g} to {self.high:g}" + ("" if self.levels is None else f" in {self.levels} levels")

    def describe(self) -> list[tuple[str, str]]:
        return [
            ("range", "not bounded" if self.low is None or self.high is None else f"{self.low:g} to {self.high:g}"),
            ("levels per value", "continuous" if self.levels is None else f"{self.levels:,}"),
            ("shift to model units", _listed(self.shift)),
            ("scale to model units", _listed(self.scale)),
        ]

    def _low_and_step(self) -> tuple[float, float]:
        assert self.low is not None
        assert self.high is not None
        assert self.levels is not None
        return self.low, (self.high - self.low) / (self.levels - 1)


def _per_feature(values: tuple[float, ...], x: Tensor) -> float | Tensor:
    return values[0] if len(values) == 1 else torch.tensor(values, dtype=x.dtype, device=x.device)


def _listed(values: tuple[float, ...]) -> str:
    """The first twelve numbers, and how many there are."""
    listed = ", ".join(f"{value:.4g}" for value in values[:_SHOWN])
    return listed + (f", … ({len(values)} in all)" if len(values) > _SHOWN else "")
