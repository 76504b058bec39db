"""The data contract: everything about the training data that a model must carry with it."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ..core import ValueGrid
from ..errors import InputError

Layout = Literal["vector", "signal", "image"]
_RANK = {"vector": 1, "signal": 2, "image": 3}
_DTYPES = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32")

# Above this a float32 in [-1, 1] no longer tells neighbouring values apart after the way to model units and back.
MOST_LEVELS = 2**20


@dataclass(frozen=True)
class DataSpec:
    """What one sample is, in what units, and how it is written for the model: ``x_model = (x - shift) / scale``.

    ``shape`` is that of one sample, channels first: (D,), (C, L) or (C, H, W). ``dtype`` is numpy's name of the
    values as they came. ``low`` and ``high`` bound the data in its own units (None: not bounded); ``levels`` counts
    the equally spaced values from low to high (None: continuous). ``channels`` are names, or empty where they have no
    meaning. ``shift`` and ``scale`` have one entry, or one per feature of a vector. ``diameter`` is the largest
    distance between two samples that was found, in model units. ``second_moment`` is E[x_model^2] over the data.
    Classes have names and counts, both empty without labels. ``count``, ``fingerprint`` (SHA-256 of values and
    labels) and ``source`` (a name, never a path) say which data it was.

    Raises:
        InputError: parts that contradict each other.
    """

    layout: Layout
    shape: tuple[int, ...]
    dtype: str
    low: float | None
    high: float | None
    levels: int | None
    channels: tuple[str, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    second_moment: float
    diameter: float
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    count: int
    fingerprint: str
    source: str

    def __post_init__(self) -> None:
        rank = _RANK[self.layout]
        _require(
            len(self.shape) == rank and min(self.shape) >= 1, f"a {self.layout} has {rank} axes of one entry or more"
        )
        _require(self.dtype in _DTYPES, f"dtype must be one of {', '.join(_DTYPES)}")
        if self.low is None or self.high is None:
            _require(self.low is self.high is None, "low and high must both be numbers or both be null")
            _require(self.levels is None, "levels needs low and high")
        else:
            _require(math.isfinite(self.low) and math.isfinite(self.high), "low and high must be finite")
            _require(self.low < self.high, "low must be below high")
            _require(self.levels is None or 2 <= self.levels <= MOST_LEVELS, f"levels must be 2 to {MOST_LEVELS}")
        _require(
            self.channels == () or (rank > 1 and len(self.channels) == self.shape[0]),
            "channels must be empty or name each channel",
        )
        _require(
            len(self.shift) == len(self.scale) and len(self.shift) in {1, self.shape[0] if rank == 1 else 1},
            "shift and scale must have one entry, or one for each feature of a vector",
        )
        _require(all(map(math.isfinite, self.shift)), "shift must be finite")
        _require(all(0 < scale < math.inf for scale in self.scale), "scale must be finite and positive")
        _require(0 <= self.second_moment < math.inf, "second_moment must be finite and not negative")
        _require(0 <= self.diameter < math.inf, "diameter must be finite and not negative")
        _require(len(self.class_names) == len(self.class_counts), "class_names and class_counts must be equally long")
        _require(self.class_counts == () or sum(self.class_counts) == self.count, "class_counts must add up to count")

    def encode(self, x: Shaped[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Data units to model units, ``(x - shift) / scale``; ``x`` is (*, *shape).

        The result is float32, or float64 when given float64.

        Raises:
            InputError: trailing axes that are not ``shape``.
        """
        self._check_shape(x, "encode")
        out = x.dtype if x.dtype == torch.float64 else torch.float32
        # Integers of more than 24 bits must be brought near zero before float32 can hold them.
        wide = x.dtype in {torch.int32, torch.int64} and self.dtype not in {"uint8", "uint16"}
        x = x.to(torch.float64 if wide else out)
        return ((x - self._features(self.shift, x)) / self._features(self.scale, x)).to(out)

    def decode(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Model units to data units, ``scale x + shift``, clipped if bounded; ``x`` is (*, *shape).

        The result is float32, or float64 when given float64. Values are left between the levels, where there are
        levels: rounding belongs to ``to_array``, as it turns a difference in the last bit into one of a whole level.

        Raises:
            InputError: trailing axes that are not ``shape``.
        """
        self._check_shape(x, "decode")
        x = x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
        x = x * self._features(self.scale, x) + self._features(self.shift, x)
        if self.low is None or self.high is None:
            return x
        return x.clamp(self.low, self.high)

    @property
    def grid(self) -> ValueGrid | None:
        """The values that numbers of a sample can take, in model units; None where they are continuous."""
        if self.levels is None or self.low is None or self.high is None:
            return None
        step = (self.high - self.low) / (self.levels - 1)
        return ValueGrid((self.low - self.shift[0]) / self.scale[0], step / self.scale[0], self.levels)

    def to_array(self, x: Float[Tensor, "*s"]) -> Shaped[np.ndarray, "*s"]:
        """Model units to an array of the type that the data came in: on the nearest level, integers in their range.

        Raises:
            InputError: NaN or infinity where the type is an integer one, which cannot hold it; a wrong shape.
        """
        decoded = self.decode(x.detach())
        if self.low is not None and self.high is not None and self.levels is not None:
            step = (self.high - self.low) / (self.levels - 1)
            decoded = ((decoded - self.low) / step).round() * step + self.low
        values = decoded.cpu().numpy()
        dtype = np.dtype(self.dtype)
        if dtype.kind == "f":
            return values.astype(dtype)
        if not np.isfinite(values).all():
            bad = np.count_nonzero(~np.isfinite(values))
            raise InputError(f"decoding to {self.dtype}: {bad} of {values.size} values are NaN or infinite; use decode")
        if dtype.kind == "b":
            return values >= 0.5
        limits = np.iinfo(dtype)
        most = float(limits.max)
        if int(most) > limits.max:  # the greatest 64-bit integers have no float of their own, and a cast would wrap
            most = float(np.nextafter(most, 0))
        return np.rint(values.astype(np.float64)).clip(limits.min, most).astype(dtype)

    def to_dict(self) -> dict[str, Any]:
        """The contract as plain JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, data: object) -> "DataSpec":
        """The contract that ``to_dict`` wrote.

        Raises:
            InputError: unknown, missing or mistyped keys, or parts that contradict each other.
        """
        if not isinstance(data, dict):
            raise InputError(f"data contract: expected a JSON object, found {type(data).__name__}")
        unknown, missing = sorted(data.keys() - _READERS.keys()), sorted(_READERS.keys() - data.keys())
        if unknown or missing:
            named = [f"unknown keys {', '.join(map(str, unknown))}"] * bool(unknown)
            named += [f"missing keys {', '.join(missing)}"] * bool(missing)
            raise InputError(f"data contract: {' and '.join(named)}; it was edited, or is of another version")
        fields = {}
        for key, (kind, read) in _READERS.items():
            try:
                fields[key] = read(data[key])
            except TypeError:  # also of an unhashable layout
                raise InputError(f"data contract: key '{key}' must be {kind}, found {data[key]!r:.60}") from None
        return cls(**fields)

    def _features(self, values: tuple[float, ...], x: Tensor) -> float | Tensor:
        return values[0] if len(values) == 1 else torch.tensor(values, dtype=x.dtype, device=x.device)

    def _check_shape(self, x: Tensor, verb: str) -> None:
        if tuple(x.shape[x.ndim - len(self.shape) :]) != self.shape or x.ndim < len(self.shape):
            raise InputError(f"{verb}: got shape {tuple(x.shape)}, and samples of this data are {self.shape}")


def _require(holds: bool, claim: str) -> None:
    if not holds:
        raise InputError(f"data contract: {claim}; it was edited, or is of another version: take it from its source")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _layout(value: object) -> str:
    if value not in _RANK:
        raise TypeError
    return _text(value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError
    return float(value)


def _optional(read: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else read(value)


def _several(read: Callable[[object], Any]) -> Callable[[object], tuple[Any, ...]]:
    def read_all(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise TypeError
        return tuple(map(read, value))

    return read_all


_READERS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "layout": (f"one of {', '.join(_RANK)}", _layout),
    "shape": ("a list of whole numbers", _several(_whole)),
    "dtype": ("a string", _text),
    "low": ("a number or null", _optional(_number)),
    "high": ("a number or null", _optional(_number)),
    "levels": ("a whole number or null", _optional(_whole)),
    "channels": ("a list of strings", _several(_text)),
    "shift": ("a list of numbers", _several(_number)),
    "scale": ("a list of numbers", _several(_number)),
    "second_moment": ("a number", _number),
    "diameter": ("a number", _number),
    "class_names": ("a list of strings", _several(_text)),
    "class_counts": ("a list of whole numbers", _several(_whole)),
    "count": ("a whole number", _whole),
    "fingerprint": ("a string", _text),
    "source": ("a string", _text),
}
