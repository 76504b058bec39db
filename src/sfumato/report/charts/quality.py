"""The figure of sample quality against evaluations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..run import number
from ..style import BLUE, GRAY, ORANGE, PALE, Axes, new_figure, styled, to_svg

_PANELS = (
    (
        "share of good samples",
        (("clipped_density", "Clipped Density", BLUE), ("clipped_coverage", "Clipped Coverage", ORANGE)),
    ),
    ("sliced Wasserstein distance", (("sliced", "samples", BLUE),)),
)

Point = tuple[float, Mapping[str, Mapping[str, Any]]]
"""Evaluations, and the rows of one space by the name of their measure."""


def quality_chart(points: Sequence[Point]) -> str:
    """Draw the measures of samples by each number of evaluations, with their intervals, and what real data gets."""
    with styled():
        figure = new_figure(940, 300)
        for axes, (title, measures) in zip(figure.subplots(1, 2), _PANELS, strict=True):
            for name, label, colour in measures:
                _curve(axes, [(x, rows[name]) for x, rows in points if name in rows], label, colour)
            axes.set(title=title, xlabel="evaluations of the denoiser", xscale="log")
            axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
            _ticks(axes, [x for x, _ in points])
            axes.legend()
        return to_svg(figure, "quality", "Quality of samples against evaluations of the denoiser.")


def _curve(axes: Axes, rows: Sequence[tuple[float, Mapping[str, Any]]], label: str, colour: str) -> None:
    x = [x for x, _ in rows]
    value, low, high = (np.array([number(dict(row), key) for _, row in rows]) for key in ("value", "low", "high"))
    axes.errorbar(
        x, value, np.abs(np.stack((value - low, high - value))), color=colour, marker="o", markersize=4, label=label,
        elinewidth=1, capsize=3,
    )  # fmt: skip
    real = number(dict(rows[-1][1]), "real_value") if rows else np.nan
    if np.isfinite(real):
        axes.axhline(real, color=colour, alpha=PALE, linestyle=(0, (4, 2)), linewidth=1.4)
        axes.annotate(
            "real data", (0, real), xycoords=axes.get_yaxis_transform(), xytext=(4, 3), textcoords="offset points",
            fontsize=10, color=GRAY,
        )  # fmt: skip


def _ticks(axes: Axes, evaluations: Sequence[float]) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axes.xaxis.set_major_locator(FixedLocator(list(evaluations)))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{n:g}" for n in evaluations]))
    axes.xaxis.set_minor_locator(NullLocator())
