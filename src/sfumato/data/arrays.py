"""Arrays of any rank as vectors, signals or images."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from ..errors import InputError
from .archives import read_archive
from .blocks import refuse
from .dataset import Content, DataOptions, full_range, shown
from .images import GRAY, RGB
from .spec import Layout

_FEW = 4  # an axis of at most this many entries is taken for channels
_BY_RANK: dict[int, tuple[Layout, ...]] = {
    1: ("vector",),
    2: ("vector", "signal"),
    3: ("image", "signal", "vector"),
    4: ("image", "vector"),
}


def read_array(path: Path, options: DataOptions) -> Content:
    """The samples of an .npy or .npz file along the first axis, in the layout asked for or the likeliest.

    Raises:
        InputError: what ``read_archive`` raises, no samples, NaN or infinite values, or a layout that an array of
            this rank cannot have.
    """
    values, labels, noise = read_archive(path, options)
    where = f"'{shown(path)}'"
    if values.ndim == 0 or values.size == 0:
        raise InputError(f"{where} has no samples: its shape is {values.shape}, and the first axis must count them")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind == "f":
        _finite(values, where)
    layout = _layout(values, options.layout, where)
    arranged = _arranged(values, layout)
    note = f"the array of shape {values.shape} is read as {layout}s of shape {arranged.shape[1:]}"
    others = [other for other in _BY_RANK.get(values.ndim, ("vector",)) if other != layout]
    if others and options.layout == "auto":
        note += f"; data.layout={' or '.join(others)} reads it otherwise"

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
        notes=(note, *labels.notes),
        noise=None if noise is None else _arranged(_finite(noise, where), layout).astype(np.float32),
    )


def _finite(values: np.ndarray, where: str) -> np.ndarray:
    mend = "remove those samples or fill the gaps, and save it again"
    refuse(values, lambda x: ~np.isfinite(x), f"in {where} are NaN or infinite", mend)
    return values


def _layout(values: np.ndarray, asked: str, where: str) -> Layout:
    possible = _BY_RANK.get(values.ndim, ("vector",))
    if asked == "auto":
        return "signal" if values.ndim == 3 and min(values.shape[1:]) <= _FEW else possible[0]
    for layout in possible:
        if layout == asked:
            return layout
    raise InputError(
        f"data.layout: {where} of shape {values.shape} cannot be read as {asked}s; "
        f"give {' or '.join(possible)}, or reshape it"
    )


def _arranged(values: Shaped[np.ndarray, "n ..."], layout: Layout) -> Shaped[np.ndarray, "n ..."]:
    """(n, D), (n, C, L) or (n, C, H, W)."""
    if layout == "vector":
        return values.reshape(len(values), -1)
    if values.ndim == (2 if layout == "signal" else 3):
        return values[:, None]
    first, last = values.shape[1], values.shape[-1]
    # Of a signal's two axes the shorter is the channels; an image's channels are few, and first unless only last fits.
    moved = last < first if layout == "signal" else last <= _FEW < first
    return np.moveaxis(values, -1, 1) if moved else values
