"""Plots of samples beside real data, which signals and vectors have in common."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from sfumato.data.spec import DataSpec

from .. import html, text
from ..image_grid import Values, fitting
from ..style import (
    BLUE,
    GRAY,
    INK_ON_ANY,
    INK_ON_WHITE,
    ORANGE,
    Axes,
    Figure,
    new_figure,
    styled,
    to_pixels,
    to_svg,
)
from .base import Drawing, Film, Path

WIDTH = 720
_VECTOR_BELOW = 3000  # values; more go into an SVG as pixels, or it would have megabytes
_REACH = 0.3  # how far beyond the central 99 % the axes go, as a fraction of its width


@dataclass(frozen=True)
class Panel:
    """A set of values (n, *shape) with its title and colour."""

    title: str
    values: Values
    colour: str


class PlotDrawing(Drawing):
    """Draws samples in the axes of a plot."""

    num_shown: ClassVar[int]
    """Most samples in a plot of a report."""

    @abstractmethod
    def figure(self, sets: Sequence[Panel], spec: DataSpec, pooled: Sequence[Values] | None = None) -> Figure:
        """The figure of these sets, within ``styled()``.

        The axes cover ``pooled``, the frames of an animation, or the sets themselves.
        """

    @abstractmethod
    def small(self, axes: Axes, values: Values, spec: DataSpec, colour: str) -> None:
        """Draw samples in a small panel."""

    @abstractmethod
    def limit(self, axes: Axes, values: Values, spec: DataSpec) -> None:
        """Set the limits of small panels to those of ``values``."""

    def picture(self, values: Values, spec: DataSpec, real: Values | None = None) -> Image.Image:
        with styled(INK_ON_WHITE):
            return to_pixels(self.figure(panels(values, spec, real), spec))

    def pictures(
        self, frames: Values, spec: DataSpec, real: Values | None = None, clear: bool = False
    ) -> list[Image.Image]:
        pooled = [*frames] + ([] if real is None else [real])
        with styled(INK_ON_ANY if clear else INK_ON_WHITE):
            figures = [self.figure(panels(frame, spec, real), spec, pooled) for frame in frames]
            drawn = [to_pixels(figures[0], clear, pixels_per_unit=1.0)]
            # Solving the arrangement again for each figure would take most of the time, and could jitter.
            positions = [axes.get_position() for axes in figures[0].get_axes()]
            for figure in figures[1:]:
                figure.set_layout_engine("none")
                for axes, position in zip(figure.get_axes(), positions, strict=True):
                    axes.set_position(position)
                drawn.append(to_pixels(figure, clear, pixels_per_unit=1.0))
            return drawn

    def samples(self, drawn: Values, real: Values | None, spec: DataSpec, caption: str) -> str:
        sets = panels(drawn[: self.num_shown], spec, None if real is None else real[: self.num_shown])
        with styled():
            plot = to_svg(self.figure(sets, spec), "samples", "Samples of the model beside real data.")
        return html.figure(plot, caption, wide=True)

    def strip(self, path: Path, real: Values | None, spec: DataSpec) -> str:
        pooled = np.concatenate([part.reshape(-1, *spec.shape) for part in (path.states, path.estimates)])
        with styled():
            figure = new_figure(960, 340)
            grid = figure.subplots(2, len(path.logsnr), sharex=True, sharey=True, squeeze=False)
            for row, (frames, label) in enumerate(((path.states, "state"), (path.estimates, "estimate"))):
                grid[row, 0].set_ylabel(label)
                for axes, frame in zip(grid[row], frames, strict=True):
                    self.small(axes, frame, spec, BLUE if row else GRAY)
            for axes, value in zip(grid[0], path.logsnr, strict=True):
                axes.set_title(f"log-SNR {text.signed(float(value))}")
            self.limit(grid[0, 0], pooled, spec)
            return to_svg(figure, "strip", "States and estimates of x_0 from noise to data.")

    def film(self, path: Path, real: Values | None, spec: DataSpec) -> Film:
        shown = None if real is None else real[: self.num_shown // 3]
        return Film(
            pictures=self.pictures(path.estimates[:, : self.num_shown], spec, shown, clear=True),
            caption="Estimates of the clean sample, from the highest noise level to the lowest.",
            style="plot",
            lossless=True,
            enlargement=1.0,
        )


def panels(values: Values, spec: DataSpec, real: Values | None = None) -> list[Panel]:
    """The sets that a plot compares.

    Raises:
        InputError: ``values`` or ``real`` do not have the shape of this data.
    """
    # In float64, as differences of large float32 overflow.
    shown = [Panel("samples", fitting(values, spec, "plot").astype(np.float64), BLUE)]
    if real is not None:
        shown.append(Panel("real samples", fitting(real, spec, "plot").astype(np.float64), ORANGE))
    return shown


def reach(values: Values) -> tuple[float, float]:
    """Axis limits for ``values``: all of them, except those far outside of the central 99 %."""
    finite = values[np.isfinite(values)].astype(np.float64)  # differences of large float32 overflow
    if finite.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(finite, (0.5, 99.5))
    spread = high - low
    low, high = max(low - _REACH * spread, finite.min()), min(high + _REACH * spread, finite.max())
    margin = 0.04 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def scatter(axes: Axes, x: Values, y: Values, colour: str, sets: int = 1) -> None:
    """Draw points whose size and opacity suit their number; ``sets`` is the number of sets in the figure."""
    size = float(np.clip(2500 / len(x), 5, 22))
    opacity = float(np.clip(300 / len(x), 0.4, 0.85))
    axes.scatter(x, y, s=size, alpha=opacity, color=colour, linewidths=0, rasterized=sets * len(x) > _VECTOR_BELOW)


def lines(axes: Axes, position: Values, signals: Values, colour: str, opacity: float | None = None) -> None:
    """Draw signals (n, L) over ``position`` (L,) as overlaid lines."""
    from matplotlib.collections import LineCollection

    alpha = float(np.clip(25 / len(signals), 0.25, 0.9)) if opacity is None else opacity
    paths = [np.column_stack((position, signal)) for signal in signals]
    axes.add_collection(
        LineCollection(paths, colors=colour, alpha=alpha, linewidths=1.0, rasterized=signals.size > _VECTOR_BELOW)
    )
    axes.set_xlim(position[0], position[-1] if len(position) > 1 else position[0] + 1)
