"""Arrays of any rank, read as vectors, signals or images."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from ..errors import InputError
from .archives import Archive, read_archive
from .axis import Axis, is_ordered
from .chunks import refuse
from .dataset import Content, DataOptions, full_range, shown
from .images import GRAY, RGB
from .layouts import LayoutName

_ENDS = {False: "first", True: "last"}
_FEW = 4  # an axis of at most this many entries is read as channels
_BY_RANK: dict[int, tuple[LayoutName, ...]] = {
    1: ("vector",),
    2: ("vector", "signal"),
    3: ("image", "signal", "vector"),
    4: ("image", "vector"),
}


def read_array(path: Path, options: DataOptions) -> Content:
    """Read the samples of an .npy or .npz file along the first axis, in the requested or the likeliest layout.

    Raises:
        InputError: what ``read_archive`` raises, no samples, NaN or infinite values, a layout that an array of this
            rank cannot have, or an axis that does not fit the samples.
    """
    found = read_archive(path, options)
    values, labels, noise = found.values, found.labels, found.noise
    where = f"'{shown(path)}'"
    if values.ndim == 0 or values.size == 0:
        raise InputError(f"{where} has no samples: its shape is {values.shape}, and the first axis must count them")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind == "f":
        _finite(values, where)
    layout = _layout(values, options, where)
    last = _channels_last(values.shape, layout, options.channels, where)
    arranged = _arranged(values, layout, last)
    note = f"the array of shape {values.shape} is read as {layout}s of shape {arranged.shape[1:]}"
    if last is not None:
        note += f", channels {_ENDS[last]}"
        if options.channels is None:
            note += f" (data.channels={_ENDS[not last]} for the other way)"
    others = [other for other in _BY_RANK.get(values.ndim, ("vector",)) if other != layout]
    if others and options.layout == "auto" and options.channels is None:
        note += f"; data.layout={' or '.join(others)} reads it differently"

    whole = layout == "image" or values.dtype.kind == "b"
    bounds, levels = full_range(values.dtype) if whole else (None, None)
    return Content(
        values=arranged,
        layout=layout,
        bounds=bounds,
        levels=levels,
        channels={1: GRAY, 3: RGB}.get(arranged.shape[1], ()) if bounds and layout == "image" else (),
        labels=labels.indices,
        class_names=labels.names,
        notes=(note, *found.notes, *labels.notes),
        noise=None if noise is None else _arranged(_finite(noise, where), layout, last).astype(np.float32),
        conditions=found.conditions,
        axis=_axis(found, options.axis, layout, arranged.shape, where),
    )


def _axis(found: Archive, key: str | None, layout: LayoutName, shape: tuple[int, ...], where: str) -> Axis | None:
    if found.axis is None or key is None:
        return None
    if layout != "signal":
        raise InputError(f"data.axis: {where} is read as {layout}s, and only signals have an axis; leave it out")
    if found.axis.shape != shape[-1:]:
        raise InputError(
            f"data.axis: {where}, array '{shown(key)}' has shape {found.axis.shape}, but the signals have "
            f"{shape[-1]} positions; give one number per position"
        )
    positions = found.axis.astype(np.float64).tolist()
    if not all(map(math.isfinite, positions)) or not is_ordered(positions):
        raise InputError(
            f"data.axis: {where}, array '{shown(key)}' is not strictly increasing or strictly decreasing; sort the "
            "positions and the signals"
        )
    return Axis.named(tuple(positions), shown(key))


def _finite(values: np.ndarray, where: str) -> np.ndarray:
    fix = "remove those samples or fill the gaps, and save the array again"
    refuse(values, lambda x: ~np.isfinite(x), f"in {where} are NaN or infinite", fix)
    return values


def _layout(values: np.ndarray, options: DataOptions, where: str) -> LayoutName:
    possible = _BY_RANK.get(values.ndim, ("vector",))
    if options.layout == "auto":
        channels = values.ndim == 3 and (options.channels is not None or min(values.shape[1:]) <= _FEW)
        return "signal" if channels else possible[0]
    for layout in possible:
        if layout == options.layout:
            return layout
    raise InputError(
        f"data.layout: {where} of shape {values.shape} cannot be read as {options.layout}s; "
        f"give {' or '.join(possible)}, or reshape it"
    )


def _channels_last(
    shape: tuple[int, ...], layout: LayoutName, asked: Literal["first", "last"] | None, where: str
) -> bool | None:
    """Whether the last axis of an array holds the channels, and not the first after the samples; None without any."""
    if layout == "vector" or len(shape) == (2 if layout == "signal" else 3):
        if asked is not None:
            raise InputError(
                f"data.channels: {where} of shape {shape} is read as {layout}s without channels; leave it out"
            )
        return None
    if asked is not None:
        return asked == "last"
    first, last = shape[1], shape[-1]
    if layout == "image":
        # Images are square more often than they have as many channels as rows.
        leading, trailing = shape[1] == shape[2] > 1, shape[2] == shape[3] > 1
        if leading != trailing:
            return leading
        if min(first, last) <= _FEW:  # they come first unless only the last axis is that short
            return first > _FEW
    return last < first  # the shorter axis


def _arranged(
    values: Shaped[np.ndarray, "n ..."], layout: LayoutName, last: bool | None
) -> Shaped[np.ndarray, "n ..."]:
    """(n, D), (n, C, L) or (n, C, H, W)."""
    if layout == "vector":
        return values.reshape(len(values), -1)
    if last is None:
        return values[:, None]
    return np.moveaxis(values, -1, 1) if last else values
