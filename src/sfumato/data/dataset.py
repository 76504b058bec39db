"""What is asked of a source, what a reader finds in it, and what the rest of the package gets."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64, Shaped
from torch import Tensor

from ..errors import InputError
from .spec import MOST_LEVELS, DataSpec, Layout


@dataclass(frozen=True)
class DataOptions:
    """How a source is to be read.

    ``layout`` is "auto", or "vector", "signal" or "image" to overrule the reading of an array. ``key`` and ``labels``
    name arrays inside an .npz file, and so does ``noise``: the standard normal noise that each sample is paired with,
    of the samples' shape. ``size`` is the (height, width) that images are cropped and resized to. ``unreadable`` says
    whether files that cannot be read are skipped or stop the reading. ``low`` and ``high`` bound the data, ``levels``
    counts its equally spaced values between them. ``limit`` uses that many samples, drawn without replacement by a
    fixed shuffle (the first ones of a sorted folder may all be of one class). ``count`` and ``seed`` are those of the
    samples drawn from a toy.

    Raises:
        InputError: values out of range, or half of a pair.
    """

    layout: Literal["auto", "vector", "signal", "image"] = "auto"
    key: str | None = None
    labels: str | None = None
    noise: str | None = None
    size: tuple[int, int] | None = None
    unreadable: Literal["skip", "stop"] = "skip"
    low: float | None = None
    high: float | None = None
    levels: int | None = None
    limit: int | None = None
    count: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        _require("layout", self.layout, self.layout in {"auto", "vector", "signal", "image"}, "vector, signal or image")
        _require("unreadable", self.unreadable, self.unreadable in {"skip", "stop"}, "skip or stop")
        _require("size", self.size, self.size is None or min(self.size) >= 1, "height and width of at least 1 pixel")
        _require("levels", self.levels, self.levels is None or 2 <= self.levels <= MOST_LEVELS, f"2 to {MOST_LEVELS}")
        _require("limit", self.limit, self.limit is None or self.limit >= 1, "at least 1 sample")
        _require("count", self.count, self.count >= 1, "at least 1 sample")
        if self.low is None or self.high is None:
            both = self.low is self.high is None
            _require("low, data.high", (self.low, self.high), both, "both of them or neither")
        else:
            ordered = math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high
            _require("low, data.high", (self.low, self.high), ordered, "two finite numbers, low below high")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory: values (N, *shape) in data units, labels (N,) from 0, the contract, and what was noticed.

    Values keep the type they came in, but for bool (as uint8) and unsigned integers of 16 to 64 bits (as the next
    signed type that torch computes with). ``noise`` (N, *shape), where there is any, is what each is paired with,
    float32. ``skipped`` pairs each file left out with the reason; ``notes`` are sentences for the user.
    """

    values: Shaped[Tensor, "n ..."]
    labels: Int64[Tensor, "n"] | None
    spec: DataSpec
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    noise: Float32[Tensor, "n ..."] | None = None


@dataclass(frozen=True, eq=False)
class Content:
    """What a reader found: values (N, *shape) and what is known of them, before any contract is drawn up.

    ``bounds`` are known limits in data units, ``levels`` the number of equally spaced values between them. ``labels``
    are indices into ``class_names``.
    """

    values: Shaped[np.ndarray, "n ..."]
    layout: Layout
    bounds: tuple[float, float] | None = None
    levels: int | None = None
    channels: tuple[str, ...] = ()
    labels: Int64[np.ndarray, "n"] | None = None
    class_names: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    noise: Float32[np.ndarray, "n ..."] | None = None


def full_range(dtype: np.dtype[Any]) -> tuple[tuple[float, float] | None, int | None]:
    """The bounds and the number of levels of a type whose whole range is used: bool, uint8 and uint16; else None."""
    if dtype.kind == "b":
        return (0.0, 1.0), 2
    if dtype.name in {"uint8", "uint16"}:
        top = int(np.iinfo(dtype).max)
        return (0.0, float(top)), top + 1
    return None, None


def shown(name: object) -> str:
    """A file's or key's name as it can stand in a one-line message: escaped where it would break or not print."""
    text = str(name)
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def reason(error: BaseException) -> str:
    """An exception in a few words of one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _require(key: str, given: object, holds: bool, allowed: str) -> None:
    if not holds:
        raise InputError(f"data.{key}: {given!r} is not allowed; give {allowed}")
