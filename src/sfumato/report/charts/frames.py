"""The figure of an interpolation: its frames from one sample to another."""

import numpy as np
from PIL import Image

from sfumato.data.spec import DataSpec

from ..image_grid import Values
from ..style import BLUE, INK_ON_WHITE, ORANGE, new_figure, styled, to_pixels
from .reconstruction import pixels

_SIDE, _MOST = 110, 12  # figure units of one image; frames that are drawn


def frames_figure(frames: Values, ends: Values, spec: DataSpec, title: str) -> Image.Image:
    """A row of images with both samples at its ends, or curves from dark to light.

    Arguments:
        frames: (n, *shape) in data units.
        ends: the two samples (2, *shape).
        spec: the data contract.
        title: the line above.
    """
    chosen = frames[np.linspace(0, len(frames) - 1, min(len(frames), _MOST)).round().astype(int)]
    with styled(INK_ON_WHITE):
        if spec.layout.dimensions == 2:
            return _images(chosen, ends, spec, title)
        return _curves(chosen, ends, spec, title)


def _images(frames: Values, ends: Values, spec: DataSpec, title: str) -> Image.Image:
    pictures = [("A", ends[0]), *((f"{i + 1}", frame) for i, frame in enumerate(frames)), ("B", ends[1])]
    figure = new_figure(_SIDE * len(pictures), _SIDE + 45)
    low, high = spec.bounds or (float(frames.min()), float(frames.max()))
    for cell, (name, values) in zip(figure.subplots(1, len(pictures)), pictures, strict=True):
        cell.imshow(pixels(values, low, high), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        cell.set_xticks([])
        cell.set_yticks([])
        cell.set_title(name, fontsize=10)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return to_pixels(figure)


def _curves(frames: Values, ends: Values, spec: DataSpec, title: str) -> Image.Image:
    figure = new_figure(640, 320)
    cell = figure.subplots()
    length = frames.shape[-1]
    at = np.arange(length) if spec.axis is None else np.array(spec.axis.values)
    marker = "o" if spec.layout.dimensions == 0 else None
    for i, frame in enumerate(frames):
        share = i / max(len(frames) - 1, 1)
        curve = frame.reshape(-1, length)[0]
        cell.plot(at, curve, color=BLUE, alpha=1 - 0.75 * share, linewidth=1, marker=marker, markersize=3)
    for end, style in zip(ends, ("--", ":"), strict=True):
        cell.plot(
            at, end.reshape(-1, length)[0], style, color=ORANGE, linewidth=1.2, label="A" if style == "--" else "B"
        )
    cell.legend(fontsize=8)
    if spec.axis is not None:
        cell.set_xlabel(spec.axis.label, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return to_pixels(figure)
