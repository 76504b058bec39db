"""From what a reader found to a data set: which values are used, how they are bounded, how they are scaled."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .blocks import blocks, refuse
from .dataset import Content, DataOptions, Dataset
from .order import permutation
from .spec import MOST_LEVELS, DataSpec

_LEAST_SCALE = 1e-30  # well above the least normal float32, 1e-38
_WIDER = {"bool": np.uint8, "uint16": np.int32, "uint32": np.int64, "uint64": np.int64}


def pick(count: int, limit: int | None) -> np.ndarray:
    """Ascending indices of the ``limit`` samples that a limit leaves of ``count``: those of a fixed shuffle."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(permutation(count, "limit")[:limit].numpy())


def finish(content: Content, options: DataOptions, source: str) -> Dataset:
    """The data set of what was read, with its contract.

    Raises:
        InputError: a layout that the source does not have, bounds or levels that the values do not keep.
    """
    content = _laid_out(content, options, source)
    _check_range(content.values)
    bounds, levels = _bounds(content, options, source)
    content = _keep(content, options.limit)
    values = content.values
    mean, variance, constant = _moments(values, per_feature=content.layout == "vector" and bounds is None)
    if bounds is None:
        shift, scale = mean, np.where(constant, 1.0, np.sqrt(variance))
    else:
        shift, scale = np.array([(bounds[0] + bounds[1]) / 2]), np.array([(bounds[1] - bounds[0]) / 2])
    if scale.min() < _LEAST_SCALE:
        raise InputError(
            f"data: '{source}' varies by {scale.min():g} only, too little for float32; multiply it by a power of ten"
        )
    remarks = _remarks(values, bounds, mean, variance, constant)
    if values.dtype.kind == "f":
        values = values.astype(np.float32, copy=False)
    counts = () if content.labels is None else np.bincount(content.labels, minlength=len(content.class_names)).tolist()
    spec = DataSpec(
        layout=content.layout,
        shape=values.shape[1:],
        dtype=values.dtype.name,
        low=bounds[0] if bounds else None,
        high=bounds[1] if bounds else None,
        levels=levels,
        channels=content.channels,
        shift=tuple(shift.tolist()),
        scale=tuple(scale.tolist()),
        second_moment=float(np.mean((variance + (mean - shift) ** 2) / scale**2)),
        diameter=diameter(values, scale),
        class_names=content.class_names,
        class_counts=tuple(counts),
        count=len(values),
        fingerprint=fingerprint(values, content.labels, content.noise),
        source=source,
    )
    labels = None if content.labels is None else torch.from_numpy(content.labels)
    noise = None if content.noise is None else torch.from_numpy(content.noise)
    return Dataset(_tensor(values), labels, spec, content.skipped, (*content.notes, *remarks, _reading(spec)), noise)


def fingerprint(values: np.ndarray, labels: np.ndarray | None, noise: np.ndarray | None = None) -> str:
    """SHA-256, in hexadecimal, of type, shape and values in little-endian order, and likewise of labels and noise."""
    digest = hashlib.sha256()
    for array in (each for each in (values, labels, noise) if each is not None):
        digest.update(f"{array.dtype.name}{array.shape}".encode())
        for block in blocks(array):
            digest.update(np.ascontiguousarray(block).astype(block.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def _check_range(values: np.ndarray) -> None:
    """Refuses what neither float32, which a model computes in, nor int64 can hold."""
    mend = "divide the data by a power of ten"
    if values.dtype.kind == "f":
        most = float(np.finfo(np.float32).max)
        refuse(values, lambda x: np.abs(x) > most, "are too large for float32", mend)
    if values.dtype.name == "uint64":
        refuse(values, lambda x: x >= 2.0**63, "are too large for int64", mend)


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
    """The samples that the limit leaves, and the classes that they belong to."""
    total = len(content.values)
    chosen = pick(total, limit)
    values, notes = content.values, content.notes
    if len(chosen) < total:
        values, notes = values[chosen], (*notes, f"{len(chosen)} of {total} samples are used (data.limit)")
        content = replace(content, noise=None if content.noise is None else content.noise[chosen])
    if content.labels is None:
        return replace(content, values=values, notes=notes)
    present, labels = np.unique(content.labels[chosen], return_inverse=True)
    names = tuple(content.class_names[i] for i in present)
    return replace(content, values=values, labels=labels.astype(np.int64), class_names=names, notes=notes)


def _bounds(content: Content, options: DataOptions, source: str) -> tuple[tuple[float, float] | None, int | None]:
    """The limits of the data and its number of levels: what the user says before what the reader knows."""
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
        # A thousandth of a step is far above the rounding of values written in float32, far below a value between.
        refuse(
            values,
            lambda x: np.abs((x - low) / step - np.rint((x - low) / step)) > 1e-3,
            f"are not on one of the {levels} levels from {low:g} to {high:g}",
            "correct data.levels, or leave it out for continuous data",
        )
    return bounds, levels


def _moments(values: np.ndarray, per_feature: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and constancy in float64, of each feature or of all the values as one: shape (D,) or (1,)."""
    table = values if per_feature else values.reshape(len(values), -1)
    axis = 0 if per_feature else None
    mean = np.atleast_1d(table.mean(axis, dtype=np.float64))
    squares: np.ndarray | float = 0.0
    for block in blocks(table):
        centred = block.astype(np.float64)
        centred -= mean
        squares += np.einsum("ij,ij->j" if per_feature else "ij,ij->", centred, centred)
    variance = np.atleast_1d(squares / (len(table) if per_feature else table.size))
    return mean, variance, np.atleast_1d(table.min(axis) == table.max(axis))


def diameter(values: np.ndarray, scale: np.ndarray) -> float:
    """The largest Euclidean distance between two samples of ``values / scale``, or a little less.

    By walking to the farthest sample from the farthest, from several starts, until that no longer grows: one pass over
    the data a step, where all pairs would take as many as there are samples. Never below half of the truth.
    """
    table = values.reshape(len(values), -1)
    weights = np.broadcast_to(1 / np.asarray(scale, np.float64) ** 2, table.shape[1])
    most = 0.0
    for start in {0, len(table) // 3, 2 * len(table) // 3}:
        place, reached = start, -1.0
        while True:
            squares = np.concatenate(
                [
                    ((block.astype(np.float64) - table[place].astype(np.float64)) ** 2) @ weights
                    for block in blocks(table)
                ]
            )
            place = int(squares.argmax())
            if squares[place] <= reached:
                break
            reached = float(squares[place])
        most = max(most, reached)
    return math.sqrt(most)


def _tensor(values: np.ndarray) -> Tensor:
    wider = _WIDER.get(values.dtype.name)
    return torch.from_numpy(np.ascontiguousarray(values if wider is None else values.astype(wider)))


def _reading(spec: DataSpec) -> str:
    """What the data was taken for, in a sentence."""
    plural = "" if spec.shape[0] == 1 else "s"
    channels = f"{spec.shape[0]} channel{plural}" + (f" ({', '.join(spec.channels)})" if spec.channels else "")
    what = {
        "vector": f"vectors of {spec.shape[0]} number{plural}",
        "signal": f"signals of length {spec.shape[-1]} with {channels}",
        "image": f"images of {'x'.join(map(str, spec.shape[1:]))} pixels (height x width) with {channels}",
    }[spec.layout]
    limits = "not bounded" if spec.low is None else f"from {spec.low:g} to {spec.high:g}"
    levels = "" if spec.levels is None else f" in {spec.levels} levels"
    return f"read as {spec.count} {what}, {spec.dtype}, {limits}{levels}"


def _remarks(
    values: np.ndarray,
    bounds: tuple[float, float] | None,
    mean: np.ndarray,
    variance: np.ndarray,
    constant: np.ndarray,
) -> list[str]:
    """What the user should know of the data's numbers."""
    remarks = []
    if bounds is None and values.dtype.kind in "ui":
        remarks.append("integers are taken for continuous values; if they have bounds, set data.low and data.high")
    if bounds is None and constant.any():
        which = ", ".join(map(str, np.flatnonzero(constant)[:10])) + (", ..." if constant.sum() > 10 else "")
        remarks.append(
            "every value is the same, so the data is centred but not scaled"
            if len(constant) == 1
            else f"{constant.sum()} of {len(constant)} features are constant, so centred but not scaled: {which}"
        )
    # float32 has 24 bits; below a thousandth of a standard deviation nobody will miss what it rounds off.
    coarse = (np.abs(mean) * 2.0**-24 > 1e-3 * np.sqrt(variance)) & ~constant
    if coarse.any():
        first = int(np.argmax(coarse))
        remarks.append(
            f"{coarse.sum()} of {len(coarse)} features vary too little about their mean for float32 (the first is "
            f"{first}: {mean[first]:g} +- {np.sqrt(variance[first]):g}); subtract the mean before saving"
        )
    return remarks
