"""Vectors (n, D): a histogram for one feature, points for two, quantile bands for more."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sfumato.data.spec import DataSpec

from .. import html
from ..image_grid import Values
from ..style import BLUE, GRAY, ORANGE, PALE, Axes, Figure, new_figure, styled, to_svg
from .base import AxesAt, Pairs
from .plots import WIDTH, Panel, PlotDrawing, panels, reach, scatter

_MOST_BARS = 40  # features; more are drawn as areas
_PAIRS = ((0, 1), (0, 2), (1, 2))  # features that are drawn against each other
_MOST_MARGINALS = 24
_IN_A_ROW = 6
_LONGEST = 16  # characters of a name in a figure
_MOST_NAMED = 12  # features whose names fit beside a matrix
_POINTS = 600  # of a recipe in a comparison


class VectorDrawing(PlotDrawing):
    """A plot that suits the number of features.

    With more than two, features are in model units, which brings them to one axis: their median and the range from the
    5 % to the 95 % quantile, and the first three features against each other.
    """

    num_shown = 1500
    num_pairs = 100
    num_levels = 6
    num_frames = 30
    row_height = 96

    def figure(self, sets: Sequence[Panel], spec: DataSpec, pooled: Sequence[Values] | None = None) -> Figure:
        everything = [np.asarray(v, np.float64) for v in pooled or [shown.values for shown in sets]]
        if spec.shape[0] == 1:
            return _histogram(sets, everything, moving=pooled is not None)
        if spec.shape[0] == 2:
            return _points(sets, everything)
        return _bands(sets, spec, everything)

    def samples(self, drawn: Values, real: Values | None, spec: DataSpec, caption: str) -> str:
        shown = super().samples(drawn, real, spec, caption)
        if spec.shape[0] < 3 or real is None:
            return shown
        sets = panels(drawn, spec, real)
        with styled():
            marginal = to_svg(_marginals(sets, spec), "marginals", "Histogram of each feature, samples beside real.")
            related = to_svg(_correlations(sets, spec), "correlations", "Correlations of the features.")
        left_out = spec.shape[0] - _MOST_MARGINALS
        more = f" The first {_MOST_MARGINALS} of {spec.shape[0]} features." if left_out > 0 else ""
        below = "Each feature by itself: samples (blue) should have the shape of real data (orange)." + more
        between = (
            "Linear correlations between features, and their difference. Differences of pure chance are about "
            f"{1 / np.sqrt(min(len(drawn), len(real))):.2f} at these numbers of samples."
        )
        return shown + html.figure(marginal, below, wide=True) + html.figure(related, between, wide=True)

    def small(self, axes: Axes, values: Values, spec: DataSpec, colour: str) -> None:
        if spec.shape[0] == 1:
            axes.plot(values[:, 0], np.arange(len(values)), ".", color=colour)
        else:
            scatter(axes, values[:, 0], values[:, 1], colour)

    def limit(self, axes: Axes, values: Values, spec: DataSpec) -> None:
        axes.set_xlim(reach(values[:, 0]))
        if spec.shape[0] > 1:
            axes.set_ylim(reach(values[:, 1]))
        else:
            axes.set_yticks([])

    def neighbours(self, pairs: Pairs, real: Values | None, spec: DataSpec, curve: str) -> str:
        if spec.shape[0] != 2:
            return curve
        with styled():
            figure = new_figure(480, 300)
            axes = figure.subplots()
            for a, b in zip(pairs.samples, pairs.nearest, strict=True):
                axes.plot([a[0], b[0]], [a[1], b[1]], color=GRAY, linewidth=0.8)
            scatter(axes, pairs.nearest[:, 0], pairs.nearest[:, 1], ORANGE)
            scatter(axes, pairs.samples[:, 0], pairs.samples[:, 1], BLUE)
            axes.set_aspect("equal", adjustable="datalim")
            axes.set(xlabel="first feature", ylabel="second feature")
            plot = to_svg(figure, pairs.name, "Samples with the nearest training sample of each.")
        shown = html.figure(plot, "Blue: samples. Orange: the nearest training sample of each.")
        return html.beside([shown, curve] if curve else [shown])

    def row_width(self, spec: DataSpec) -> int:
        return 3 * (self.row_height + 8) if spec.shape[0] > 2 else 180

    def row(
        self, axes_at: AxesAt, values: Values, real: Values | None, spec: DataSpec, left: int | float, top: int | float
    ) -> None:
        like, side = values if real is None else real, self.row_height
        if spec.shape[0] == 1:
            axes = axes_at(left, top, self.row_width(spec), side)
            bins = list(np.linspace(*reach(like[:, 0]), 41))
            for shown, colour in ((real, GRAY), (values, BLUE)):
                if shown is not None:
                    axes.hist(shown[:, 0], bins, density=True, color=colour, alpha=0.5)
            axes.set_axis_off()
            return
        for k, (i, j) in enumerate(_PAIRS if spec.shape[0] > 2 else _PAIRS[:1]):
            axes = axes_at(left + k * (side + 8), top, side, side)
            if real is not None:
                _dots(axes, real[:, i], real[:, j], GRAY, PALE)
            _dots(axes, values[:, i], values[:, j], BLUE if real is not None else GRAY, 0.7)
            axes.set(xlim=reach(like[:, i]), ylim=reach(like[:, j]))
            axes.set_axis_off()


def _dots(axes: Axes, x: Values, y: Values, colour: str, opacity: float) -> None:
    axes.scatter(x[:_POINTS], y[:_POINTS], s=4, color=colour, alpha=opacity, linewidths=0)


def _histogram(sets: Sequence[Panel], pooled: Sequence[Values], moving: bool) -> Figure:
    figure = new_figure(WIDTH, 300)
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
    figure = new_figure(WIDTH if len(sets) > 1 else WIDTH // 2 + 20, 370)
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
    figure = new_figure(WIDTH, 470)
    cells = figure.add_gridspec(2, len(_PAIRS), height_ratios=(1.05, 1))
    axes = figure.add_subplot(cells[0, :])
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
    axes.set(xlabel="feature", ylabel="model units", xlim=(0.4, features + 0.6))
    axes.set_ylim(bands.min() - margin, bands.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    everything = _in_model_units(np.concatenate(pooled), spec)
    for k, (i, j) in enumerate(_PAIRS):
        axes = figure.add_subplot(cells[1, k])
        for shown in reversed(sets):
            values = _in_model_units(shown.values, spec)
            scatter(axes, values[:, i], values[:, j], shown.colour, sets=len(sets) * len(_PAIRS))
        limits = {"xlim": reach(everything[:, i]), "ylim": reach(everything[:, j])}
        axes.set(xlabel=f"feature {i + 1}", ylabel=f"feature {j + 1}", **limits)
    return figure


def _names(spec: DataSpec) -> list[str]:
    """The names of the features, or their numbers."""
    known = len(spec.channels) == spec.shape[0]
    return [str(name) for name in spec.channels] if known else [f"feature {i + 1}" for i in range(spec.shape[0])]


def _marginals(sets: Sequence[Panel], spec: DataSpec) -> Figure:
    features = min(spec.shape[0], _MOST_MARGINALS)
    rows = -(-features // _IN_A_ROW)
    figure = new_figure(WIDTH + 120, 120 * rows + 20)
    grid = figure.subplots(rows, _IN_A_ROW, squeeze=False).flat
    for i, name in enumerate(_names(spec)[:features]):
        columns = [shown.values[:, i] for shown in sets]
        low, high = reach(np.concatenate(columns))
        bins = np.linspace(low, high, 31)
        for shown, column in zip(sets, columns, strict=True):
            grid[i].stairs(_density(column, bins), bins, color=shown.colour, fill=True, alpha=0.2)
            grid[i].stairs(_density(column, bins), bins, color=shown.colour, linewidth=1.4, label=shown.title)
        grid[i].set_title(name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…")
        grid[i].set(xlim=(low, high), yticks=[])
        grid[i].locator_params(axis="x", nbins=3)
    for axes in grid[features:]:
        axes.set_visible(False)
    return figure


def _correlations(sets: Sequence[Panel], spec: DataSpec) -> Figure:
    ours, theirs = (_correlation(shown.values) for shown in sets)
    figure = new_figure(WIDTH + 120, 270)
    grid = figure.subplots(1, 3, sharex=True, sharey=True)
    titles = (f"{sets[1].title}", f"{sets[0].title}", "difference")
    for axes, title, matrix in zip(grid, titles, (theirs, ours, ours - theirs), strict=True):
        drawn = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
        axes.set_title(title)
        axes.grid(False)
        axes.set(xticks=[], yticks=[])
    if spec.shape[0] <= _MOST_NAMED:
        grid[0].set_yticks(range(spec.shape[0]), [name[:_LONGEST] for name in _names(spec)])
    figure.colorbar(drawn, ax=list(grid), shrink=0.8)
    return figure


def _correlation(values: Values) -> npt.NDArray[np.float64]:
    """Correlations (D, D) of the finite values, others at their feature's mean; 0 for a feature that does not vary."""
    known = np.isfinite(values)
    kept = np.where(known, values, 0).astype(np.float64)
    centred = np.where(known, kept - kept.sum(0) / np.maximum(known.sum(0), 1), 0)
    deviation = centred.std(0)
    unit = centred / np.where(deviation > 0, deviation, np.inf)
    found: npt.NDArray[np.float64] = unit.T @ unit / len(kept)
    return found


def _in_model_units(values: Values, spec: DataSpec) -> npt.NDArray[Any]:
    x = torch.from_numpy(np.asarray(values, np.float64))
    encoded: npt.NDArray[Any] = spec.transform.per_feature(x).numpy()
    return encoded


def _quantiles(values: Values, spec: DataSpec) -> npt.NDArray[Any]:
    """The 5 %, 50 % and 95 % quantiles (3, D) of the finite values of each feature."""
    encoded = _in_model_units(values, spec)
    kept = [feature[np.isfinite(feature)] for feature in encoded.T]
    found: npt.NDArray[Any] = np.array([np.percentile(f, (5, 50, 95)) if f.size else (0, 0, 0) for f in kept])
    return np.swapaxes(found, 0, 1)


def _density(values: Values, bins: npt.NDArray[Any]) -> npt.NDArray[Any]:
    inside = values[(values >= bins[0]) & (values <= bins[-1])]
    density: npt.NDArray[Any] = np.histogram(inside, bins)[0] / (len(values) * (bins[1] - bins[0]))
    return density
