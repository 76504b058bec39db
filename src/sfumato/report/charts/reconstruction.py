"""The figure of a reconstruction: what was known, the mean, the uncertainty, and some draws of each measurement."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from sfumato.data.spec import DataSpec

from ..image_grid import Values
from ..style import BLUE, INK_ON_WHITE, ORANGE, new_figure, styled, to_pixels

_MOST_ROWS, _MOST_DRAWS = 6, 5
_SIDE = 110  # figure units of one image


@dataclass(frozen=True)
class Shown:
    """What is drawn, in data units.

    Arguments:
        draws: (M, n, *shape).
        mean: (M, *shape).
        std: (M, *shape).
        low: the lower end of the band (M, *shape).
        high: the upper end.
        given: what was given (M, *shape), where it has the shape of a sample; nan where nothing is known.
    """

    draws: Values
    mean: Values
    std: Values
    low: Values
    high: Values
    given: Values | None = None


def reconstruction_figure(shown: Shown, spec: DataSpec, title: str) -> Image.Image:
    """Up to six measurements: rows of images, or curves with their band.

    Arguments:
        shown: what to draw.
        spec: the data contract.
        title: the line above.
    """
    with styled(INK_ON_WHITE):
        return _images(shown, spec, title) if spec.layout.dimensions == 2 else _curves(shown, spec, title)


def _images(shown: Shown, spec: DataSpec, title: str) -> Image.Image:
    rows, draws = min(len(shown.mean), _MOST_ROWS), min(shown.draws.shape[1], _MOST_DRAWS)
    first = [] if shown.given is None else ["given"]
    names = [*first, "mean", "deviation", *(f"draw {i + 1}" for i in range(draws))]
    figure = new_figure(_SIDE * len(names), _SIDE * rows + 45)
    axes = figure.subplots(rows, len(names), squeeze=False)
    low, high = spec.bounds or (float(shown.mean.min()), float(shown.mean.max()))
    most = float(shown.std.max()) or 1.0
    for m in range(rows):
        pictures = [] if shown.given is None else [shown.given[m]]
        pictures += [shown.mean[m], shown.std[m], *shown.draws[m, :draws]]
        for cell, name, values in zip(axes[m], names, pictures, strict=True):
            ends = (0.0, most) if name == "deviation" else (low, high)
            cell.imshow(pixels(values, *ends), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            cell.set_facecolor("#cfe0f5")  # what is not known
            cell.set_xticks([])
            cell.set_yticks([])
            if m == 0:
                cell.set_title(name, fontsize=10)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return to_pixels(figure)


def pixels(values: Values, low: float, high: float) -> Values:
    """(C, H, W) as (H, W) or (H, W, 3) in [0, 1]."""
    scaled = ((values - low) / (high - low)).clip(0, 1)
    picture: Values = scaled[:3].transpose(1, 2, 0) if len(scaled) >= 3 else scaled[0]
    return picture


def _curves(shown: Shown, spec: DataSpec, title: str) -> Image.Image:
    rows = min(len(shown.mean), _MOST_ROWS)
    columns = 2 if rows > 1 else 1
    lines = -(-rows // columns)
    figure = new_figure(420 * columns, 190 * lines + 40)
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    at = np.arange(shown.mean.shape[-1]) if spec.axis is None else np.array(spec.axis.values)
    marker = "o" if spec.layout.dimensions == 0 else None
    for m, cell in enumerate(axes):
        if m >= rows:
            cell.set_axis_off()
            continue
        mean, low, high = (v[m].reshape(-1, v.shape[-1])[0] for v in (shown.mean, shown.low, shown.high))
        cell.fill_between(at, low, high, color=BLUE, alpha=0.2, linewidth=0, label="band")
        for i in range(min(shown.draws.shape[1], _MOST_DRAWS)):
            draw = shown.draws[m, i].reshape(-1, shown.draws.shape[-1])[0]
            cell.plot(at, draw, color=BLUE, alpha=0.35, linewidth=0.7, label="draws" if i == 0 else None)
        cell.plot(at, mean, color=BLUE, marker=marker, markersize=3, label="mean")
        if shown.given is not None:
            given = shown.given[m].reshape(-1, shown.given.shape[-1])[0]
            cell.plot(at, given, ".", color=ORANGE, markersize=4, label="given")
        if m == 0:
            cell.legend(fontsize=8)
        if spec.axis is not None:
            cell.set_xlabel(spec.axis.label, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return to_pixels(figure)
