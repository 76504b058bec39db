"""Signals (n, C, L), drawn as lines over their axis."""

from collections.abc import Sequence

import numpy as np

from sfumato.data.spec import DataSpec

from .. import html
from ..image_grid import Values
from ..style import BLUE, GRAY, ORANGE, Axes, Figure, new_figure, styled, to_svg
from .base import AxesAt, Pairs
from .plots import WIDTH, Panel, PlotDrawing, lines, reach

_MOST_LINES = 200  # more overlaid signals are a blur
_MOST_CHANNELS = 4
_IN_A_ROW = 6
_CHANNEL_COLOURS = (BLUE, ORANGE, GRAY)


class SignalDrawing(PlotDrawing):
    """Overlaid lines, one row of panels per channel."""

    num_shown = 100
    num_pairs = 8
    num_levels = 6
    num_frames = 30
    row_height = 56

    def figure(self, sets: Sequence[Panel], spec: DataSpec, pooled: Sequence[Values] | None = None) -> Figure:
        everything = np.concatenate([np.asarray(v, np.float64) for v in pooled or [shown.values for shown in sets]])
        rows = min(spec.shape[0], _MOST_CHANNELS)
        figure = new_figure(WIDTH, 250 if rows == 1 else 150 * rows + 40)
        grid = figure.subplots(rows, len(sets), sharex=True, sharey="row", squeeze=False)
        for row in range(rows):
            grid[row, 0].set_ylim(reach(everything[:, row]))
            grid[row, 0].set_ylabel(spec.channels[row] if rows > 1 and spec.channels else "value")
            for axes, shown in zip(grid[row], sets, strict=True):
                lines(axes, _position(spec), np.asarray(shown.values[:_MOST_LINES, row]), shown.colour)
        for column, shown in enumerate(sets):
            grid[0, column].set_title(f"{min(len(shown.values), _MOST_LINES)} {shown.title}")
            grid[-1, column].set_xlabel(_label(spec))
        return figure

    def small(self, axes: Axes, values: Values, spec: DataSpec, colour: str) -> None:
        lines(axes, _position(spec), values[:, 0], colour)

    def limit(self, axes: Axes, values: Values, spec: DataSpec) -> None:
        axes.set_ylim(reach(values))

    def neighbours(self, pairs: Pairs, real: Values | None, spec: DataSpec, curve: str) -> str:
        with styled():
            figure = new_figure(960, 300)
            grid = figure.subplots(2, 4, sharex=True, sharey=True)
            for axes in grid.flat[len(pairs.samples) :]:
                axes.set_visible(False)
            shown = zip(grid.flat, pairs.samples, pairs.nearest, pairs.distances, strict=False)
            for axes, sample, nearest, distance in shown:
                lines(axes, _position(spec), nearest, ORANGE, 0.9)
                lines(axes, _position(spec), sample, BLUE, 0.9)
                axes.set_title(f"{pairs.number} {distance:.3g}")
            figure.supxlabel(_label(spec), fontsize=12)
            plot = to_svg(figure, pairs.name, "Samples with the nearest training sample of each.")
        return html.figure(plot, "Blue: samples. Orange: the nearest training sample of each.", wide=True) + curve

    def row_width(self, spec: DataSpec) -> int:
        return 400

    def row(
        self, axes_at: AxesAt, values: Values, real: Values | None, spec: DataSpec, left: int | float, top: int | float
    ) -> None:
        axes = axes_at(left, top, self.row_width(spec), self.row_height)
        count, length = min(len(values), _IN_A_ROW), spec.shape[1]
        for k in range(count):
            at = k * 1.12 * length + np.arange(length)
            for signal, colour in list(zip(values[k], _CHANNEL_COLOURS, strict=False))[::-1]:
                axes.plot(at, signal, color=colour, linewidth=1.1)
        axes.set(xlim=(-0.02 * length, (count * 1.12 - 0.1) * length), ylim=reach(values if real is None else real))
        axes.set_axis_off()


def _position(spec: DataSpec) -> Values:
    return np.arange(spec.shape[-1]) if spec.axis is None else np.array(spec.axis.values)


def _label(spec: DataSpec) -> str:
    return "position" if spec.axis is None else spec.axis.label
