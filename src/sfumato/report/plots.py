"""Signals and vectors as plots: lines, points, histograms, quantile bands; samples beside real data if there is any."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sfumato.data.spec import DataSpec

from .images import Values, fitting
from .style import BLUE, INK_ON_ANY, INK_ON_WHITE, ORANGE, Axes, Figure, new_figure, styled, to_pixels

_WIDTH = 720
_MOST_LINES = 200  # more overlaid signals are a smear
_MOST_CHANNELS = 4
_MOST_BARS = 40  # features; above, bands are drawn as areas
_PAIRS = ((0, 1), (0, 2), (1, 2))
_VECTOR_BELOW = 3000  # drawn values; above, they go into an SVG as pixels, or it would be megabytes
_REACH = 0.3  # how far beyond the central 99 % a plot goes, as a share of their spread


@dataclass(frozen=True)
class Panel:
    """One set of values (n, *shape) with its title and colour."""

    title: str
    values: Values
    colour: str


def plot(values: Values, spec: DataSpec, reference: Values | None = None) -> Image.Image:
    """Signals (n, C, L) or vectors (n, D) in data units as one picture, with ``reference``, real data, to compare.

    Signals are overlaid lines, one row of panels a channel. Vectors are a histogram (D = 1), points (D = 2), or bands
    from the 5 % to the 95 % quantile with the median, feature by feature, and the first features pairwise (D > 2);
    features of vectors with D > 2 are in model units, ``(x - shift) / scale``, which brings them to one axis.

    Raises InputError when ``values`` or ``reference`` are not samples of the contract's shape.
    """
    with styled(INK_ON_WHITE):
        return to_pixels(draw(panels(values, spec, reference), spec))


def plot_frames(
    frames: Values, spec: DataSpec, reference: Values | None = None, clear: bool = False
) -> list[Image.Image]:
    """Frames (f, n, *shape) as pictures like ``plot``'s, all with the same axes."""
    pooled = [*frames] + ([] if reference is None else [reference])
    with styled(INK_ON_ANY if clear else INK_ON_WHITE):
        figures = [draw(panels(frame, spec, reference), spec, pooled) for frame in frames]
        pictures = [to_pixels(figures[0], clear, pixels_per_unit=1.0)]
        # The layout of the first serves all: solving it again for each would take most of the time, and could jitter.
        places = [axes.get_position() for axes in figures[0].get_axes()]
        for figure in figures[1:]:
            figure.set_layout_engine("none")
            for axes, place in zip(figure.get_axes(), places, strict=True):
                axes.set_position(place)
            pictures.append(to_pixels(figure, clear, pixels_per_unit=1.0))
        return pictures


def panels(values: Values, spec: DataSpec, reference: Values | None = None) -> list[Panel]:
    """The sets that a plot compares: ``values``, called samples, and ``reference``, called real samples."""
    shown = [Panel("samples", fitting(values, spec, "plot"), BLUE)]
    if reference is not None:
        shown.append(Panel("real samples", fitting(reference, spec, "plot"), ORANGE))
    return shown


def draw(sets: Sequence[Panel], spec: DataSpec, pooled: Sequence[Values] | None = None) -> Figure:
    """The figure of these sets, within ``styled()``; the limits of the axes are those of ``pooled``, or of the sets."""
    moving = pooled is not None
    pooled = [np.asarray(v, np.float64) for v in pooled or [shown.values for shown in sets]]
    if spec.layout.name == "signal":
        return _signals(sets, spec, pooled)
    if spec.shape[0] == 1:
        return _histogram(sets, pooled, moving)
    if spec.shape[0] == 2:
        return _points(sets, pooled)
    return _bands(sets, spec, pooled)


def reach(values: Values) -> tuple[float, float]:
    """Axis limits for ``values``: all of them, unless a few lie far outside the central 99 %."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(finite, (0.5, 99.5))
    spread = high - low
    low, high = max(low - _REACH * spread, finite.min()), min(high + _REACH * spread, finite.max())
    margin = 0.04 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def scatter(axes: Axes, x: Values, y: Values, colour: str, below: int = 1) -> None:
    """Points of a size and opacity that suit their number; ``below`` is the number of sets that share the axes."""
    size = float(np.clip(2500 / len(x), 5, 22))
    opacity = float(np.clip(300 / len(x), 0.4, 0.85))
    axes.scatter(x, y, s=size, alpha=opacity, color=colour, linewidths=0, rasterized=below * len(x) > _VECTOR_BELOW)


def lines(axes: Axes, signals: Values, colour: str, opacity: float | None = None) -> None:
    """Signals (n, L) as overlaid lines."""
    from matplotlib.collections import LineCollection

    position = np.arange(signals.shape[1])
    share = float(np.clip(25 / len(signals), 0.25, 0.9)) if opacity is None else opacity
    paths = [np.column_stack((position, signal)) for signal in signals]
    axes.add_collection(
        LineCollection(paths, colors=colour, alpha=share, linewidths=1.0, rasterized=signals.size > _VECTOR_BELOW)
    )
    axes.set_xlim(0, max(1, signals.shape[1] - 1))


def _signals(sets: Sequence[Panel], spec: DataSpec, pooled: Sequence[Values]) -> Figure:
    everything = np.concatenate(pooled)
    rows = min(spec.shape[0], _MOST_CHANNELS)
    figure = new_figure(_WIDTH, 250 if rows == 1 else 150 * rows + 40)
    grid = figure.subplots(rows, len(sets), sharex=True, sharey="row", squeeze=False)
    for row in range(rows):
        grid[row, 0].set_ylim(reach(everything[:, row]))
        grid[row, 0].set_ylabel(spec.channels[row] if rows > 1 and spec.channels else "value")
        for axes, shown in zip(grid[row], sets, strict=True):
            lines(axes, np.asarray(shown.values[:_MOST_LINES, row]), shown.colour)
    for column, shown in enumerate(sets):
        grid[0, column].set_title(f"{min(len(shown.values), _MOST_LINES)} {shown.title}")
        grid[-1, column].set_xlabel("position")
    return figure


def _histogram(sets: Sequence[Panel], pooled: Sequence[Values], moving: bool) -> Figure:
    figure = new_figure(_WIDTH, 300)
    axes = figure.subplots()
    low, high = reach(np.concatenate(pooled))
    bins = np.linspace(low, high, 61)
    for shown in sets:
        heights = _density(shown.values[:, 0], bins)
        axes.stairs(heights, bins, color=shown.colour, fill=True, alpha=0.25)
        axes.stairs(heights, bins, color=shown.colour, linewidth=1.6, label=f"{len(shown.values)} {shown.title}")
    axes.set(xlim=(low, high), xlabel="value", ylabel="density")
    if moving:  # estimates begin as one spike, and the axis is for what they become
        axes.set_ylim(0, 1.5 * float(_density(pooled[-1][:, 0], bins).max()) or 1.0)
    axes.legend()
    return figure


def _points(sets: Sequence[Panel], pooled: Sequence[Values]) -> Figure:
    everything = np.concatenate(pooled)
    figure = new_figure(_WIDTH if len(sets) > 1 else _WIDTH // 2 + 20, 370)
    figure.set_layout_engine("compressed")
    grid = figure.subplots(1, len(sets), sharex=True, sharey=True, squeeze=False)[0]
    x, y = reach(everything[:, 0]), reach(everything[:, 1])
    half = max(x[1] - x[0], y[1] - y[0]) / 2
    for axes, shown in zip(grid, sets, strict=True):
        scatter(axes, shown.values[:, 0], shown.values[:, 1], shown.colour)
        axes.set(aspect="equal", title=f"{len(shown.values)} {shown.title}", xlabel="first feature")
        axes.set(xlim=(sum(x) / 2 - half, sum(x) / 2 + half), ylim=(sum(y) / 2 - half, sum(y) / 2 + half))
    grid[0].set_ylabel("second feature")
    return figure


def _bands(sets: Sequence[Panel], spec: DataSpec, pooled: Sequence[Values]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    features = spec.shape[0]
    figure = new_figure(_WIDTH, 470)
    places = figure.add_gridspec(2, len(_PAIRS), height_ratios=(1.05, 1))
    axes = figure.add_subplot(places[0, :])
    position = np.arange(1, features + 1)
    for k, shown in enumerate(sets):
        low, middle, high = _quantiles(shown.values, spec)
        if features > _MOST_BARS:
            axes.fill_between(position, low, high, color=shown.colour, alpha=0.25, linewidth=0)
            axes.plot(position, middle, color=shown.colour, linewidth=1.4)
        else:
            at = position + (k - (len(sets) - 1) / 2) * 0.3
            axes.vlines(at, low, high, color=shown.colour, linewidth=min(6.0, 90 / features), alpha=0.6)
            axes.plot(at, middle, "o", color=shown.colour, markersize=min(6.0, 90 / features))
        axes.plot([], [], color=shown.colour, label=f"{len(shown.values)} {shown.title}: 5 % to 95 %, median")
    bands = np.array([_quantiles(v, spec) for v in pooled])
    margin = 0.05 * (bands.max() - bands.min()) or 0.5
    axes.set(xlabel="feature", ylabel="(x − shift) / scale", xlim=(0.4, features + 0.6))
    axes.set_ylim(bands.min() - margin, bands.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    everything = _in_model_units(np.concatenate(pooled), spec)
    for k, (i, j) in enumerate(_PAIRS):
        axes = figure.add_subplot(places[1, k])
        for shown in reversed(sets):
            values = _in_model_units(shown.values, spec)
            scatter(axes, values[:, i], values[:, j], shown.colour, below=len(sets) * len(_PAIRS))
        axes.set(
            xlabel=f"feature {i + 1}",
            ylabel=f"feature {j + 1}",
            xlim=reach(everything[:, i]),
            ylim=reach(everything[:, j]),
        )
    return figure


def _in_model_units(values: Values, spec: DataSpec) -> npt.NDArray[Any]:
    scaled: npt.NDArray[Any] = spec.encode(torch.from_numpy(np.asarray(values, np.float64))).numpy()
    return scaled


def _quantiles(values: Values, spec: DataSpec) -> npt.NDArray[Any]:
    """The 5 %, 50 % and 95 % quantiles of each feature, (3, D), of the values that are finite."""
    scaled = _in_model_units(values, spec)
    kept = [feature[np.isfinite(feature)] for feature in scaled.T]
    found: npt.NDArray[Any] = np.array([np.percentile(f, (5, 50, 95)) if f.size else (0, 0, 0) for f in kept])
    return np.swapaxes(found, 0, 1)


def _density(values: Values, bins: npt.NDArray[Any]) -> npt.NDArray[Any]:
    inside = values[(values >= bins[0]) & (values <= bins[-1])]
    density: npt.NDArray[Any] = np.histogram(inside, bins)[0] / (len(values) * (bins[1] - bins[0]))
    return density
