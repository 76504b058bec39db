"""From what a reader found to a data set: which samples are used, their bounds, and their transform."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import torch

from ..errors import InputError
from .chunks import chunks, refuse
from .dataset import Content, DataOptions, Dataset
from .duplicates import copies
from .layouts import LAYOUTS
from .mapped import MappedArray, is_mapped
from .order import permutation
from .quantities import quantities_of
from .spec import DataSpec
from .stored import Stored, tensor_of
from .transforms import MOST_LEVELS, Affine, Columns

_LEAST_SCALE = 1e-30  # well above the smallest normal float32, 1e-38


def pick(count: int, limit: int | None) -> np.ndarray:
    """Ascending indices of the ``limit`` samples that a fixed shuffle of ``count`` picks; all if there is no limit."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(permutation(count, "limit")[:limit].numpy())


def finish(content: Content, options: DataOptions, source: str) -> Dataset:
    """Return the data set with its contract.

    Arguments:
        content: what a reader found.
        options: how to read it.
        source: the name of the data.

    Raises:
        InputError: a layout that the source does not have; values that are not within the bounds or on the levels.
    """
    content = _laid_out(content, options, source)
    _check_range(content.values)
    bounds, levels = _bounds(content, options, source)
    content = _keep(content, options.limit)
    values = content.values
    transform, second_moment, extent, remarks = _table(content) if content.columns else _affine(content, bounds, levels)
    least = min(c.scale for c in transform.columns) if isinstance(transform, Columns) else min(transform.scale)
    if least < _LEAST_SCALE:
        raise InputError(
            f"data: '{source}' varies by only {least:g}, too little for float32; multiply it by a power of ten"
        )
    if values.dtype.kind == "f":
        values = values.astype(np.float32, copy=False)
    names, given = content.conditions or ((), None)
    quantities = () if given is None else quantities_of(names, given)
    counts = () if content.labels is None else np.bincount(content.labels, minlength=len(content.class_names)).tolist()
    spec = DataSpec(
        layout=LAYOUTS[content.layout],
        shape=values.shape[1:],
        dtype=values.dtype.name,
        transform=transform,
        channels=content.channels,
        second_moment=second_moment,
        diameter=extent,
        class_names=content.class_names,
        class_counts=tuple(counts),
        count=len(values if content.stored is None else content.stored),
        fingerprint=fingerprint(values, content.labels, content.noise, content.digest, given),
        source=source,
        axis=content.axis,
        conditions=quantities,
    )
    labels = None if content.labels is None else torch.from_numpy(content.labels)
    noise = None if content.noise is None else torch.from_numpy(content.noise)
    stored: Stored | None = MappedArray(values) if is_mapped(values) else content.stored
    if content.stored is not None:
        remarks = [f"of a random part of {len(values):,}: {remark}" for remark in remarks]
    notes = [*content.notes, *remarks, _reading(spec), *([] if stored is None else [stored.note])]
    held = tensor_of(values) if stored is None else stored
    numbers = None if given is None else torch.from_numpy(given)
    return Dataset(held, labels, spec, content.skipped, tuple(notes), noise, numbers)


def _affine(
    content: Content, bounds: tuple[float, float] | None, levels: int | None
) -> tuple[Affine, float, float, list[str]]:
    """The transform of data whose values all mean the same, or are all numbers, E[x_model^2], diameter and notes."""
    values = content.values
    mean, variance, constant = _moments(values, per_feature=content.layout == "vector" and bounds is None)
    if bounds is None:
        shift, scale = mean, np.where(constant, 1.0, np.sqrt(variance))
    else:
        shift, scale = np.array([(bounds[0] + bounds[1]) / 2]), np.array([(bounds[1] - bounds[0]) / 2])
    low, high = (None, None) if bounds is None else bounds
    transform = Affine(tuple(shift.tolist()), tuple(scale.tolist()), low, high, levels)
    second_moment = float(np.mean((variance + (mean - shift) ** 2) / scale**2))
    remarks = _remarks(values, bounds, mean, variance, constant)
    return transform, second_moment, diameter(values, scale), remarks


def _table(content: Content) -> tuple[Columns, float, float, list[str]]:
    """The same of a table whose columns have kinds."""
    values = content.values
    numbers = [j for j, column in enumerate(content.columns) if column.kind in {"number", "whole"}]
    mean, deviation = np.nanmean(values, 0), np.nanstd(values, 0)
    label, at = content.label or (None, 0)
    transform = Columns(content.columns, label, at)
    encoded = transform.encode(torch.from_numpy(values.astype(np.float64))).numpy()
    same = copies(values)
    remarks = [f"{same:,} of {len(values):,} samples are exact copies of others"] * bool(same)
    constant = [column.name for j, column in enumerate(content.columns) if deviation[j] == 0]
    if constant:
        some = ", ".join(constant[:10]) + (", ..." if len(constant) > 10 else "")
        remarks.append(f"{len(constant)} of {len(content.columns)} columns are constant: {some}")
    remarks += _coarse(mean[numbers], deviation[numbers] ** 2, deviation[numbers] == 0)
    return transform, float(np.mean(encoded**2)), diameter(encoded, np.ones(1)), remarks


def fingerprint(
    values: np.ndarray,
    labels: np.ndarray | None,
    noise: np.ndarray | None = None,
    others: str = "",
    given: np.ndarray | None = None,
) -> str:
    """SHA-256, in hexadecimal, of type, shape and little-endian values of the samples and what is beside them.

    Where the samples are a part of the data, ``others`` is the digest of the rest.
    """
    digest = hashlib.sha256(others.encode())
    for array in (each for each in (values, labels, noise, given) if each is not None):
        digest.update(f"{array.dtype.name}{array.shape}".encode())
        for chunk in chunks(array):
            digest.update(np.ascontiguousarray(chunk).astype(chunk.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def _check_range(values: np.ndarray) -> None:
    """Refuses what neither float32, which a model computes in, nor int64 can hold."""
    fix = "divide the data by a power of ten"
    if values.dtype.kind == "f":
        most = float(np.finfo(np.float32).max)
        refuse(values, lambda x: np.abs(x) > most, "are too large for float32", fix)
    if values.dtype.name == "uint64":
        refuse(values, lambda x: x >= 2.0**63, "are too large for int64", fix)


def _laid_out(content: Content, options: DataOptions, source: str) -> Content:
    if options.layout in {"auto", content.layout}:
        return content
    if options.layout != "vector":
        raise InputError(
            f"data.layout: '{source}' holds {content.layout}s and cannot be read as {options.layout}s; "
            f"give {'' if content.layout == 'vector' else f'{content.layout}, '}vector or auto"
        )
    flat = content.values.reshape(len(content.values), -1)
    noise = None if content.noise is None else content.noise.reshape(flat.shape)
    return replace(content, values=flat, layout="vector", channels=(), noise=noise)


def _keep(content: Content, limit: int | None) -> Content:
    """Only the samples that the limit leaves, with their classes."""
    if content.stored is not None:  # the reader has picked them
        return content
    total = len(content.values)
    chosen = pick(total, limit)
    values, notes = content.values, content.notes
    if len(chosen) < total:
        values, notes = values[chosen], (*notes, f"{len(chosen)} of {total} samples are used (data.limit)")
        content = replace(content, noise=None if content.noise is None else content.noise[chosen])
        if content.conditions is not None:
            content = replace(content, conditions=(content.conditions[0], content.conditions[1][chosen]))
    if content.labels is None:
        return replace(content, values=values, notes=notes)
    labels = content.labels if len(chosen) == total else content.labels[chosen]
    present = np.bincount(labels, minlength=len(content.class_names)) > 0
    names = tuple(name for name, here in zip(content.class_names, present, strict=True) if here)
    if not present.all():
        labels = (np.cumsum(present) - 1)[labels]
    return replace(content, values=values, labels=labels, class_names=names, notes=notes)


def _bounds(content: Content, options: DataOptions, source: str) -> tuple[tuple[float, float] | None, int | None]:
    """Bounds of the data and its number of levels; the user's options come before what the reader knows."""
    values = content.values
    bounds, levels = content.bounds, content.levels
    if options.low is not None and options.high is not None:
        bounds, levels = (float(options.low), float(options.high)), None
        if values.dtype.kind in "bui" and all(bound == math.floor(bound) for bound in bounds):
            between = int(bounds[1] - bounds[0]) + 1
            levels = between if between <= MOST_LEVELS else None
    if options.levels is not None:
        if bounds is None:
            raise InputError(f"data.levels: '{source}' is not bounded; give data.low and data.high as well")
        levels = options.levels
    if bounds is None or (options.low is None and options.levels is None):
        return bounds, levels

    low, high = bounds
    refuse(values, lambda x: (x < low) | (x > high), f"are outside {low:g} to {high:g}", "widen data.low and data.high")
    if levels is not None:
        step = (high - low) / (levels - 1)
        # A thousandth of a step is far above the rounding of float32, far below a value between two levels.
        refuse(
            values,
            lambda x: np.abs((x - low) / step - np.rint((x - low) / step)) > 1e-3,
            f"are not on one of the {levels} levels from {low:g} to {high:g}",
            "correct data.levels, or leave it out for continuous data",
        )
    return bounds, levels


def _moments(values: np.ndarray, per_feature: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and whether all values are equal, in float64, per feature (D,) or of all values together (1,)."""
    axis = 0 if per_feature else None
    number = len(values) if per_feature else values.size
    parts = [(c.sum(axis, dtype=np.float64), c.min(axis), c.max(axis)) for c in chunks(values)]
    total, low, high = (np.stack(each) for each in zip(*parts, strict=True))
    mean = np.atleast_1d(total.sum(0) / number)
    squares: np.ndarray | float = 0.0
    for chunk in chunks(values):
        centred = chunk.reshape(len(chunk), -1).astype(np.float64)
        centred -= mean
        squares += np.einsum("ij,ij->j" if per_feature else "ij,ij->", centred, centred)
    return mean, np.atleast_1d(squares / number), np.atleast_1d(low.min(0) == high.max(0))


def diameter(values: np.ndarray, scale: np.ndarray) -> float:
    """The largest Euclidean distance between two samples of ``values / scale``, or a little less.

    From several starts it walks to the farthest sample, again and again, until the distance no longer grows. That takes
    one pass over the data per step; comparing all pairs would take one per sample. Data in a file is passed once. Never
    less than half the true value.
    """
    weights = np.broadcast_to(1 / np.asarray(scale, np.float64) ** 2, math.prod(values.shape[1:]))

    def squares_from(start: int) -> np.ndarray:
        centre = values[start].reshape(-1).astype(np.float64)
        rows = (chunk.reshape(len(chunk), -1).astype(np.float64) for chunk in chunks(values))
        return np.concatenate([((each - centre) ** 2) @ weights for each in rows])

    if is_mapped(values):
        return math.sqrt(float(squares_from(0).max()))
    most = 0.0
    for start in {0, len(values) // 3, 2 * len(values) // 3}:
        current, reached = start, -1.0
        while True:
            squares = squares_from(current)
            current = int(squares.argmax())
            if squares[current] <= reached:
                break
            reached = float(squares[current])
        most = max(most, reached)
    return math.sqrt(most)


def _reading(spec: DataSpec) -> str:
    """How the data was read, as a sentence."""
    samples = spec.layout.describe(spec.shape, spec.channels)
    return f"read as {spec.count:,} {samples}; {spec.dtype}, {spec.transform.range_in_words()}"


def _unbounded(values: np.ndarray) -> list[str]:
    """A note for data without bounds that seems to have some, with the settings that keep samples within them."""
    low = min(float(chunk.min()) for chunk in chunks(values))
    high = max(float(chunk.max()) for chunk in chunks(values))
    integers = values.dtype.kind in "ui"
    if not low < high:
        return []
    if low < 0:
        return (
            ["integers are read as continuous values; if they have bounds, set data.low and data.high"]
            if integers
            else []
        )
    top = 1.0 if high <= 1 and not integers else high if integers else _rounded_up(high)
    what = "all values are within 0 and 1" if top == 1 and not integers else "no value is negative"
    kind = "integers are read as continuous values; " if integers else ""
    return [f"{kind}{what}, but samples can be outside; data.low=0 data.high={top:.15g} keeps them there"]


def _rounded_up(value: float) -> float:
    """The next number above with two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit) * unit:.2g}")


def _remarks(
    values: np.ndarray,
    bounds: tuple[float, float] | None,
    mean: np.ndarray,
    variance: np.ndarray,
    constant: np.ndarray,
) -> list[str]:
    """Notes for the user about the values."""
    remarks = []
    if bounds is None:
        remarks += _unbounded(values)
    if same := copies(values):
        remarks.append(f"{same:,} of {len(values):,} samples are exact copies of others")
    if bounds is None and constant.any():
        which = ", ".join(map(str, np.flatnonzero(constant)[:10])) + (", ..." if constant.sum() > 10 else "")
        remarks.append(
            "every value is the same, so the data is centred but not scaled"
            if len(constant) == 1
            else f"{constant.sum()} of {len(constant)} features are constant, so centred but not scaled: {which}"
        )
    return remarks + _coarse(mean, variance, constant)


def _coarse(mean: np.ndarray, variance: np.ndarray, constant: np.ndarray) -> list[str]:
    """A note if features have a large mean: float32 has 24 bits; a thousandth of the deviation may be lost."""
    coarse = (np.abs(mean) * 2.0**-24 > 1e-3 * np.sqrt(variance)) & ~constant
    if not coarse.any():
        return []
    first = int(np.argmax(coarse))
    return [
        f"{coarse.sum()} of {len(coarse)} features vary too little around their mean for float32 (the first is "
        f"{first}: {mean[first]:g} +- {np.sqrt(variance[first]):g}); subtract the mean before saving"
    ]
