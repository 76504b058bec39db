"""How a source is read, what a reader finds in it, and the data set that the rest of the package uses."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, Shaped
from torch import Tensor

from ..errors import InputError
from ..numerics.integers import whole
from .axis import Axis
from .column import Column
from .layouts import LayoutName
from .quantities import standardised
from .samples import Samples, SampleSource
from .spec import DataSpec
from .stored import Stored, StoredSamples
from .transforms import MOST_LEVELS

_TOGETHER = 2**24  # values of a data set in a file that are read into memory together, at most


@dataclass(frozen=True)
class DataOptions:
    """How to read a source.

    Arguments:
        layout: "auto", or "vector", "signal" or "image" to choose how an array is read.
        key: name of the array of samples in an .npz file.
        labels: name of the array of labels in an .npz file, of the column of classes in a table, or of the table with
            the classes of a folder of images.
        conditions: names of arrays in an .npz file, or of columns of a table, with numbers that samples are given
            with; NaN, or an empty cell, where one is not given.
        noise: name of an array in an .npz file with the standard normal noise that each sample is paired with, of the
            samples' shape.
        columns: what the columns of a table hold, by name, where it is not what their cells look like: "number",
            "whole", either with bounds as in "whole 0..100", "category", "ordinal", with an order as in "ordinal
            low<mid<high", "date" or "drop".
        missing: "keep" rows of a table that lack values, so that samples lack some too, or "drop" them.
        axis: name of an array in an .npz file with the positions of a signal's values. "wavelength [nm]" also gives
            the name of the axis and its unit.
        channels: "first" or "last" to choose which axis of an array holds the channels of a signal or an image.
        size: (height, width) that images are cropped and resized to.
        convert: "rgb" or "gray" to make all images of a folder one kind; alpha is dropped.
        unreadable: whether files that cannot be read are skipped or stop the reading.
        low: lower bound of the data.
        high: upper bound of the data.
        levels: number of equally spaced values from ``low`` to ``high``.
        limit: use this many samples, drawn without replacement by a fixed shuffle (the first files of a sorted folder
            may all belong to one class).
        count: number of samples drawn from a toy.
        seed: seed of the samples drawn from a toy.

    Raises:
        InputError: values out of range, or only one of ``low`` and ``high``.
    """

    layout: Literal["auto", "vector", "signal", "image"] = "auto"
    key: str | None = None
    labels: str | None = None
    conditions: tuple[str, ...] | None = None
    noise: str | None = None
    columns: Mapping[str, str] | None = None
    missing: Literal["keep", "drop"] | None = None
    axis: str | None = None
    channels: Literal["first", "last"] | None = None
    size: tuple[int, int] | None = None
    convert: Literal["rgb", "gray"] | None = None
    unreadable: Literal["skip", "stop"] = "skip"
    low: float | None = None
    high: float | None = None
    levels: int | None = None
    limit: int | None = None
    count: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("levels", "limit", "count", "seed"):
            if (value := getattr(self, name)) is not None or name in ("count", "seed"):
                object.__setattr__(self, name, whole(f"data.{name}", value))
        _require("layout", self.layout, self.layout in {"auto", "vector", "signal", "image"}, "vector, signal or image")
        _require("channels", self.channels, self.channels in {None, "first", "last"}, "first or last")
        _require("missing", self.missing, self.missing in {None, "keep", "drop"}, "keep or drop")
        _require("convert", self.convert, self.convert in {None, "rgb", "gray"}, "rgb or gray")
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
    """A data set in data units, with its contract; in memory, or, if it is large, in its files.

    Arguments:
        held: (N, *shape), in the type they came in, except that bool becomes uint8, and unsigned integers of 16 to
            64 bits become the next signed type that torch computes with; or what reads them from files.
        labels: (N,) class indices from 0, or None.
        spec: the contract.
        skipped: pairs of a file that was left out and the reason.
        notes: sentences for the user.
        noise: (N, *shape) float32, the noise that each sample is paired with, or None.
        conditions: (N, k) float64, the numbers that samples are given with, NaN where one is not given; or None.
    """

    held: Shaped[Tensor, "n ..."] | Stored
    labels: Int64[Tensor, "n"] | None
    spec: DataSpec
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    noise: Float32[Tensor, "n ..."] | None = None
    conditions: Float64[Tensor, "n k"] | None = None

    def __len__(self) -> int:
        return len(self.held)

    @property
    def values(self) -> Shaped[Tensor, "n ..."]:
        """All values, of data in memory; ask for ``rows`` where data may be in files."""
        assert isinstance(self.held, Tensor), "values that are in files are not read all together"
        return self.held

    @property
    def in_memory(self) -> bool:
        """Whether the values are in memory, not in files."""
        return isinstance(self.held, Tensor)

    def samples(self, device: torch.device | str = "cpu") -> SampleSource:
        """All samples in model units on ``device``, with their noise, labels and conditions, as training takes them."""
        if not isinstance(self.held, Tensor):
            return StoredSamples(self.held, self.spec, self.labels, device)
        given = None if self.conditions is None else standardised(self.spec.conditions, self.conditions)
        beside = (None if each is None else each.to(device) for each in (self.noise, self.labels, given))
        return Samples(self.spec.encode(self.held).to(device), *beside)

    def fitting(self, index: Int64[Tensor, "n"]) -> Int64[Tensor, "m"]:
        """As many of these indices as may be read into memory together: all, but of data in files 2^24 values.

        Random indices should be given, so that the first ones are a random part.
        """
        return index if self.in_memory else index[: max(_TOGETHER // math.prod(self.spec.shape), 1)]

    def rows(self, index: Int64[Tensor, "n"]) -> Tensor:
        """A copy of the values of the samples with these indices."""
        if isinstance(self.held, Tensor):
            return self.held[index]
        return self.held.rows(index).reshape(-1, *self.spec.shape)

    def encoded(self, index: Int64[Tensor, "n"]) -> Tensor:
        """The values of the samples with these indices, in model units."""
        return self.spec.encode(self.rows(index))


@dataclass(frozen=True, eq=False)
class Content:
    """The content of a source as a reader found it, before there is a contract.

    Arguments:
        values: (N, *shape); of samples that are in files a random part.
        layout: name of the layout.
        bounds: known limits in data units, or None.
        levels: number of equally spaced values between the bounds, or None.
        channels: names, or empty.
        labels: (N,) indices into ``class_names``, or None.
        class_names: empty without labels.
        skipped: pairs of a file that was left out and the reason.
        notes: sentences for the user.
        noise: (N, *shape), or None.
        conditions: the names of numbers that samples are given with, and these (N, k), NaN where one is not given.
        axis: positions of a signal's values, or None.
        columns: the columns of a table, whose values have NaN where one is missing; else empty.
        label: name of a table's column of classes, and its position among the columns; or None.
        stored: all samples, where ``values`` are a part of them; labels are those of all.
        digest: of what identifies them without reading them all.
    """

    values: Shaped[np.ndarray, "n ..."]
    layout: LayoutName
    bounds: tuple[float, float] | None = None
    levels: int | None = None
    channels: tuple[str, ...] = ()
    labels: Int64[np.ndarray, "all"] | None = None
    class_names: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    noise: Float32[np.ndarray, "n ..."] | None = None
    conditions: tuple[tuple[str, ...], Float64[np.ndarray, "given k"]] | None = None
    axis: Axis | None = None
    columns: tuple[Column, ...] = ()
    label: tuple[str, int] | None = None
    stored: Stored | None = None
    digest: str = ""


def full_range(dtype: np.dtype[Any]) -> tuple[tuple[float, float] | None, int | None]:
    """Bounds and number of levels of a type whose whole range is in use (bool, uint8, uint16); else (None, None)."""
    if dtype.kind == "b":
        return (0.0, 1.0), 2
    if dtype.name in {"uint8", "uint16"}:
        top = int(np.iinfo(dtype).max)
        return (0.0, float(top)), top + 1
    return None, None


def shown(name: object) -> str:
    """The name of a file or key, escaped where it would break a one-line message or not print."""
    text = str(name)
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def reason(error: BaseException) -> str:
    """An exception in a few words on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _require(key: str, given: object, holds: bool, allowed: str) -> None:
    if not holds:
        raise InputError(f"data.{key}: {given!r} is not allowed; give {allowed}")
