"""The figure of ``sfumato certify``: error against evaluations, one line per method."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from ..style import BLUE, GRAY, INK_ON_WHITE, ORANGE, PALE, Axes, Figure, new_figure, styled, to_pixels, to_svg

_OTHERS = ("#2e9e6b", "#a35fc4", "#c2527e")  # for the best of the other methods
_OWN = {"auto": BLUE, "fitted": ORANGE}
_GAP = 15  # units between labels, one above the other
_WIDTH, _HEIGHT = 940, 400


def certificate(record: Mapping[str, Any]) -> Image.Image:
    """Draw the errors of the methods that add no noise, root mean square beside median.

    ``auto``, ``fitted`` and the best three others have a colour and a label; the rest is gray. Errors above three
    standard deviations of the data are cut off. A dotted line is the error of the fine solution itself, where it
    matters.

    Arguments:
        record: the content of certify.json.
    """
    with styled(INK_ON_WHITE):
        figure = new_figure(_WIDTH, _HEIGHT)
        gray = len(_exact(record)) - len(_colours(record))
        figure.suptitle(
            f"{record['target']}: distance to the fine solution, {record['samples']:,} samples, model units. "
            + (f"Gray: {gray} other methods" if gray else ""),
            x=0.01,
            ha="left",
            fontsize=12,
        )
        _draw(figure, record)
        return to_pixels(figure)


def certificate_chart(record: Mapping[str, Any]) -> str:
    """The same as an SVG."""
    with styled():
        figure = new_figure(_WIDTH, _HEIGHT - 40)
        _draw(figure, record)
        return to_svg(figure, "certify", "Error of each sampling method against evaluations of the denoiser.")


def _exact(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in record["methods"] if not row["stochastic"]]


def _colours(record: Mapping[str, Any]) -> dict[str, str]:
    """The colours of the methods that have one."""
    names = [row["method"] for row in _exact(record)]
    named = {name: _OWN[name] for name in names if name in _OWN}
    return named | dict(zip((name for name in names if name not in _OWN), _OTHERS, strict=False))


def _draw(figure: Figure, record: Mapping[str, Any]) -> None:
    rows, named = _exact(record), _colours(record)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    ends: dict[str, dict[str, tuple[float, float]]] = {"rms": {}, "median": {}}
    for axes, key, title in zip(panels, ends, ("root mean square", "median sample"), strict=True):
        axes.set(xscale="log", yscale="log", title=title, xlabel="evaluations of the denoiser")
        for row in sorted(rows, key=lambda row: (row["method"] in named, row["method"] not in _OWN)):
            x, y = _curve(row["entries"], key)
            look: dict[str, Any] = {"label": row["method"], "color": named.get(row["method"])}
            if x and look["color"] is None:
                axes.plot(x, y, **{**look, "color": GRAY}, alpha=PALE, linewidth=1.1)
            elif x:  # auto and fitted are wide, so that they show beneath an equal line
                width = 3.6 if row["method"] in _OWN else 1.4
                axes.plot(x, y, **look, marker="o", markersize=width + 2, linewidth=width)
                ends[key][row["method"]] = (x[-1], y[-1])
        _ticks(axes, record["budgets"])
    panels[0].set_xlim(min(record["budgets"]) / 1.06, max(record["budgets"]) * 1.06)
    bottom, top = panels[0].get_ylim()  # of both panels
    panels[0].set_ylim(bottom, max(min(top, 3 * record["deviation"]), 2 * bottom))
    for axes, key in zip(panels, ends, strict=True):  # below this line, the fine solution itself is uncertain
        if bottom < record["fine"][key]:
            axes.axhline(record["fine"][key], color=GRAY, linestyle=(0, (2, 3)), linewidth=1.2)
    figure.canvas.draw()  # the labels are placed in pixels
    for axes, key in zip(panels, ends, strict=True):
        _labels(axes, ends[key], named)


def _curve(cells: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Evaluations and errors, where the error can be shown on a logarithmic axis."""
    points = [(float(cell["evaluations"]), cell[key]) for cell in cells if 0 < cell.get(key, 0) < math.inf]
    return [x for x, _ in points], [y for _, y in points]


def _ticks(axes: Axes, budgets: Sequence[int]) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axes.xaxis.set_major_locator(FixedLocator([float(n) for n in budgets]))
    axes.xaxis.set_major_formatter(FixedFormatter([str(n) for n in budgets]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())


def _labels(axes: Axes, ends: Mapping[str, tuple[float, float]], colours: Mapping[str, str]) -> None:
    """Label lines at their right ends, moved apart where labels would overlap; lines that end early, below the end."""
    right = max((x for x, _ in ends.values()), default=0.0)
    points = sorted((float(axes.transData.transform(end)[1]), name) for name, end in ends.items())
    at = -math.inf
    for height, name in points:
        if ends[name][0] < 0.9 * right:
            look: dict[str, Any] = {"xytext": (-4, -9), "ha": "right", "va": "top"}
        else:
            at = max(height, at + _GAP)
            look = {"xytext": (7, at - height), "va": "center"}
        axes.annotate(name, ends[name], textcoords="offset pixels", color=colours[name], annotation_clip=False, **look)
