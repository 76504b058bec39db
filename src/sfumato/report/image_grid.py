"""Arrays of images as one picture: a window on the values, then a grid with thin gaps.

A window (low, high) is mapped linearly to black and white, ``byte = round(255 (value - low) / (high - low))``, clipped.
For bounded data the window is its range, so that gray levels mean the same in every picture. For unbounded data it is
two percentiles of the whole set, never of one image.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sfumato.data.spec import DataSpec
from sfumato.errors import InputError

Values = npt.NDArray[Any]
Window = tuple[float, float]

GAP = 2  # pixels between the cells of a grid
_GAP_GRAY = 200  # visible between white images and between black ones
_PERCENTILES = (0.5, 99.5)
_WIDTH = 720  # pixels of an enlarged grid
_LARGEST_CELL = 256
_CHECKER = (8, 255, 224)  # side in pixels and the two grays behind what is transparent


def window(values: Values, spec: DataSpec) -> Window:
    """Return the (low, high) that become black and white: the bounds of the data, else two percentiles of ``values``.

    The percentiles are 0.5 and 99.5, over finite values. If all values are equal, the window has width 1.
    """
    if spec.bounds is not None:
        return spec.bounds
    finite = values[np.isfinite(values)]
    low, high = (float(p) for p in np.percentile(finite, _PERCENTILES)) if finite.size else (0.0, 0.0)
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def grid(
    values: Values,
    spec: DataSpec,
    columns: int | None = None,
    scale: int | None = None,
    *,
    window_of: Values | None = None,
    clear: bool = False,
) -> Image.Image:
    """Draw images as one picture, row by row, 2 pixels apart.

    Gray images give mode "L" and colour images "RGB"; an alpha channel is composited on a light checkerboard. With
    other numbers of channels, the first three are shown as RGB, or the first one as gray.

    Arguments:
        values: (n, C, H, W) in data units.
        spec: the data contract.
        columns: images per row, by default as many as make the picture nearly square.
        scale: pixels per pixel in each direction; by default small images are enlarged.
        window_of: values that determine the window, by default ``values``.
        clear: make gaps and empty cells transparent (modes "LA" and "RGBA") instead of light gray.

    Raises:
        InputError: ``values`` are not images of the contract's shape; columns or scale below 1.
    """
    if spec.layout.dimensions != 2:
        raise InputError(
            f"grid: the layout of the data is {spec.layout.name!r}, not 'image'; use picture, which draws every layout"
        )
    values = fitting(values, spec, "grid")
    n, _, height, width = values.shape
    columns = arrange(n, height, width) if columns is None else at_least_one(columns, "columns")
    scale = _enlargement(columns, height, width) if scale is None else at_least_one(scale, "scale")
    pixels = _pixels(values, spec, window(values if window_of is None else window_of, spec), scale)
    rows = math.ceil(n / columns)
    cell_height, cell_width = pixels.shape[1:3]
    canvas = np.full(
        (rows * (cell_height + GAP) - GAP, columns * (cell_width + GAP) - GAP, pixels.shape[3] + clear),
        0 if clear else _GAP_GRAY,
        dtype=np.uint8,
    )
    for k, cell in enumerate(pixels):
        top, left = k // columns * (cell_height + GAP), k % columns * (cell_width + GAP)
        target = canvas[top : top + cell_height, left : left + cell_width]
        target[..., : cell.shape[2]] = cell
        if clear:
            target[..., -1] = 255
    return Image.fromarray(canvas[..., 0] if canvas.shape[2] == 1 else canvas)


def fitting(values: Values, spec: DataSpec, what: str) -> Values:
    """Return ``values``.

    Raises:
        InputError: they are not (n, *shape) of the contract with n >= 1; ``what`` names them.
    """
    if values.shape[1:] != tuple(spec.shape) or len(values) == 0:
        raise InputError(f"{what}: shape {values.shape} is not that of samples of this data: {_expected(spec)}")
    return values


def at_least_one(value: int, name: str) -> int:
    """Return ``value``.

    Raises:
        InputError: it is less than 1; ``name`` names it.
    """
    if value < 1:
        raise InputError(f"{name}: {value} is not a count; give at least 1")
    return value


def arrange(n: int, height: int, width: int) -> int:
    """Return the number of columns that makes n cells a nearly square picture with few empty cells."""
    ideal = math.sqrt(n * height / width)
    candidates = range(max(1, math.floor(0.6 * ideal)), min(n, math.ceil(1.7 * ideal)) + 1)
    return min(
        candidates or range(n, n + 1),
        key=lambda c: (round((-n % c > 0) * 0.25 + -n % c / n + abs(math.log(c / ideal)), 6), -c),
    )


def _enlargement(columns: int, height: int, width: int) -> int:
    return max(1, min(_WIDTH // columns, _LARGEST_CELL) // max(height, width))


def _pixels(values: Values, spec: DataSpec, limits: Window, scale: int) -> npt.NDArray[np.uint8]:
    """(n, C, H, W) in data units to bytes (n, H scale, W scale, 1 or 3)."""
    alpha = _alpha_channel(spec.channels)
    opacity = None if alpha is None else values[:, alpha : alpha + 1]
    colours = values if alpha is None else values[:, :alpha]
    shown = _bytes(colours[:, : 3 if colours.shape[1] >= 3 else 1], limits)
    enlarged = _enlarge(shown, scale)
    if opacity is None:
        return enlarged
    alpha_value = _enlarge(_bytes(opacity, limits), scale) / 255.0
    side, light, dark = _CHECKER
    row, column = np.indices(enlarged.shape[1:3]) // side
    checker = np.where((row + column) % 2 == 0, light, dark)[None, :, :, None]
    blended: npt.NDArray[np.uint8] = np.rint(alpha_value * enlarged + (1 - alpha_value) * checker).astype(np.uint8)
    return blended


def _alpha_channel(channels: Sequence[str]) -> int | None:
    return len(channels) - 1 if len(channels) > 1 and channels[-1].lower() in {"alpha", "a"} else None


def _bytes(values: Values, limits: Window) -> npt.NDArray[np.uint8]:
    low, high = limits
    brightness = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    pixels: npt.NDArray[np.uint8] = np.rint(255 * np.nan_to_num(brightness, nan=0.0)).astype(np.uint8)
    return pixels


def _enlarge(pixels: npt.NDArray[np.uint8], scale: int) -> npt.NDArray[np.uint8]:
    larger: npt.NDArray[np.uint8] = pixels.transpose(0, 2, 3, 1).repeat(scale, axis=1).repeat(scale, axis=2)
    return larger


def _expected(spec: DataSpec) -> str:
    return f"give (n, {', '.join(map(str, spec.shape))}) with n >= 1"
