"""The figure of ``sfumato compare``: one row per recipe, its samples beside its measurements."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from sfumato.data.spec import DataSpec
from sfumato.reporting import duration

from ..drawings import drawing_of
from ..image_grid import Values
from ..style import BLUE, GRAY, INK_ON_WHITE, ORANGE, Axes, Figure, new_figure, styled, to_pixels

_WIDTH = 960
_MARGIN, _BETWEEN = 14, 34  # outside of the columns, and between them
_TOP, _BOTTOM = 84, 34  # above the rows, and below
_NAME = 22  # height of the name above the samples
_NUMBERS = (3.2, 2.4, 1.5)  # relative widths of the columns of bits/dim, distance and images/s
_ORDER = 12.0  # the axis of ratios is logarithmic if the largest exceeds the smallest by this factor
_FAR = 6.0  # values farther from the smallest than this many times the median is are off the scale
_LETTER = 8.2  # width of a bold letter, or a little more
_SMALL = 11.5

Number = int | float


def comparison_figure(
    record: Mapping[str, Any], samples: Mapping[str, Values], real: Values | None, spec: DataSpec
) -> Image.Image:
    """Draw samples and measurements of several recipes.

    Bits/dim have two markers with bars of one standard error. The distance of samples is divided by that of real
    samples, the dotted line. A value far beyond the others is an arrow at the edge, with its number.

    Arguments:
        record: the content of comparison.json.
        samples: (n, *shape) of each recipe, in data units.
        real: real data, drawn on top, or None.
        spec: the data contract.
    """
    rows = record["recipes"]
    drawing = drawing_of(spec)
    height, left = drawing.row_height + _NAME + 10, drawing.row_width(spec)
    shown = [row["recipe"] for row in rows]
    first = 0 if real is None else -1  # the row of real data is above those of the recipes
    total = _TOP + height * (len(rows) - first) + _BOTTOM
    with styled(INK_ON_WHITE):
        figure = new_figure(_WIDTH, total)
        figure.set_layout_engine("none")
        canvas = _Canvas(figure, total, height, first)
        goal = record["goal"]
        budget = f"{goal['steps']:,} steps" if "steps" in goal else duration(goal["seconds"])
        canvas.text(
            f"{record['source']}: {budget} of training each, {record['scored']} held-out samples scored", _MARGIN, 20
        )
        strips = ([("real data", real, False)] if real is not None else []) + [
            (name, samples.get(name), True) for name in shown
        ]
        for i, (name, values, made) in enumerate(strips):
            top = _TOP + i * height
            if i % 2 == 0:
                canvas.shade(top - 3, height)
            most = int((left + _BETWEEN) / _LETTER)
            name = name if len(name) <= most else name[: most - 1] + "…"
            canvas.text(name, _MARGIN, top + 15, weight="bold" if made else "normal")
            if values is None:
                canvas.text("no samples", _MARGIN, top + _NAME + 20, color=GRAY)
            else:
                drawing.row(canvas.axes, values, real if made else None, spec, _MARGIN, top + _NAME)
        x: Number = _MARGIN + left + _BETWEEN
        unit = (_WIDTH - _MARGIN - x - 2 * _BETWEEN) / sum(_NUMBERS)
        columns = []
        for width in _NUMBERS:
            columns.append(canvas.column(x, width * unit))
            x += width * unit + _BETWEEN
        _bits(columns[0], rows)
        _distances(columns[1], rows)
        _rates(columns[2], rows, spec.layout.noun)
        return to_pixels(figure)


class _Canvas:
    """Draws in units from the top left corner of the figure; row i of the recipes is at y = i of a column."""

    def __init__(self, figure: Figure, height: int, row: int, first: int) -> None:
        self.figure = figure
        self._height, self._row, self._first = height, row, first

    def axes(self, x: Number, y: Number, width: Number, height: Number) -> Axes:
        """Axes with their top left corner at (x, y)."""
        down = 1 - (y + height) / self._height
        return self.figure.add_axes((x / _WIDTH, down, width / _WIDTH, height / self._height))

    def text(self, text: str, x: Number, y: Number, **look: Any) -> None:
        """A line of text that starts at x on the baseline y."""
        self.figure.text(x / _WIDTH, 1 - y / self._height, text, parse_math=False, **look)

    def shade(self, y: Number, height: Number) -> None:
        """A band over the whole width."""
        from matplotlib.patches import Rectangle

        down = 1 - (y + height) / self._height
        self.figure.add_artist(Rectangle((0, down), 1, height / self._height, color=GRAY, alpha=0.09, linewidth=0))

    def column(self, x: Number, width: Number) -> Axes:
        """Axes over all rows."""
        axes = self.axes(x, _TOP - 3, width, self._height - _TOP - _BOTTOM)
        last = (self._height - _TOP - _BOTTOM) / self._row + self._first
        axes.set_ylim(last - 0.5, self._first - 0.5)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        return axes


def _bits(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    kinds = (("bound", BLUE, "o", -0.1), ("flow", ORANGE, "D", 0.1))
    cells = {(i, part): row[part] for i, row in enumerate(rows) for part, *_ in kinds if row[part] is not None}
    far = _limits(axes, [cell["bits_per_dim"] for cell in cells.values()])
    best = {part: min((c["bits_per_dim"] for (_, p), c in cells.items() if p == part), default=0) for part, *_ in kinds}
    for part, colour, marker, shift in kinds:
        for i in range(len(rows)):
            if (cell := cells.get((i, part))) is not None:
                value, error = cell["bits_per_dim"], cell["standard_error"]
                _mark(axes, value, i + shift, error, colour, marker, shift < 0, far, value == best[part])
    _title(axes, "bits/dim")
    for (_, colour, marker, _), label in zip(kinds, ("bound", "flow"), strict=True):
        axes.plot([], [], linestyle="", marker=marker, color=colour, label=label)
    if cells:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, handletextpad=0.1, columnspacing=0.8)


def _distances(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    cells = {i: row["samples"] for i, row in enumerate(rows) if row["samples"] and row["samples"]["ratio"] is not None}
    ends = [cell["ratio"] + side * (cell["ratio_error"] or 0) for cell in cells.values() for side in (-1, 1)]
    far = _limits(axes, [1.0, *(max(end, 1e-3) for end in ends)], orders=True)
    axes.axvline(1, color=INK_ON_WHITE, linestyle=(0, (2, 3)), linewidth=1.4)
    least = min((cell["ratio"] for cell in cells.values()), default=0)
    for i, cell in cells.items():
        _mark(axes, cell["ratio"], i, cell["ratio_error"], BLUE, "o", True, far, cell["ratio"] == least, 2)
    _title(axes, "distance of samples", "relative to real samples")


def _rates(axes: Axes, rows: Sequence[Mapping[str, Any]], noun: str) -> None:
    rates = [row["training"]["images_per_second"] for row in rows]
    axes.hlines(range(len(rows)), 0, rates, color=BLUE, alpha=0.7, linewidth=7, capstyle="butt")
    for i, rate in enumerate(rates):
        axes.annotate(
            f"{rate:,.0f}", (0, i), (0, 9), textcoords="offset points", fontsize=_SMALL, annotation_clip=False
        )
    axes.set_xlim(0, max([*rates, 1e-9]))
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)
    _title(axes, f"{noun}/s")


def _title(axes: Axes, *words: str) -> None:
    """One or two lines above the column; where there is one, a legend has room below it."""
    for k, text in enumerate(words):
        axes.annotate(
            text, (0, 1), (0, 24 - 16 * k), xycoords="axes fraction", textcoords="offset points", annotation_clip=False
        )


def _limits(axes: Axes, values: Sequence[Number], orders: bool = False) -> float:
    """Set limits that show most values, and return the value above which others are off the scale.

    With ``orders``, values that span orders of magnitude get a logarithmic axis that shows all of them.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if orders and max(values) > _ORDER * min(values):
        margin = (max(values) / min(values)) ** 0.1
        axes.set_xscale("log")
        axes.set_xlim(min(values) / margin, max(values) * margin)
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        return math.inf
    ordered = np.sort(values) if len(values) else np.zeros(1)
    low, middle = float(ordered[0]), float(np.median(ordered))
    far = low + _FAR * max(middle - low, 0.01 * abs(low), 1e-3)
    high = float(ordered[ordered <= far][-1])
    spread = max(high - low, 0.02 * max(abs(low), abs(high)), 1e-6)
    axes.set_xlim(low - 0.12 * spread, high + (0.3 if ordered[-1] > far else 0.12) * spread)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
    return far


def _mark(
    axes: Axes,
    value: Number,
    y: Number,
    error: float | None,
    colour: str,
    marker: str,
    above: bool,
    far: float,
    best: bool,
    places: int = 3,
) -> None:
    """A marker with its error bar and, above or below it, its number; an arrow at the right edge if off the scale."""
    low, high = axes.get_xlim()
    off = value > far
    x = high if off else value
    if not off and error is not None and math.isfinite(error):
        axes.hlines(y, max(value - error, low), value + error, color=colour, linewidth=1.8)
    axes.plot([x], [y], marker=">" if off else marker, color=colour, markersize=7 if off else 6, clip_on=False)
    across = float(axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0])
    axes.annotate(
        f"{value:.{places}f}" if abs(value) < 100 else f"{value:,.0f}",
        (x, y),
        (0, 6 if above else -6),
        textcoords="offset points",
        ha="left" if across < 0.2 else "right" if across > 0.8 else "center",
        va="bottom" if above else "top",
        fontsize=_SMALL,
        weight="bold" if best else "normal",
        annotation_clip=False,
    )
