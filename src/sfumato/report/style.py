"""One style for every figure, and the two outputs of matplotlib: inline SVG and pixels.

Sizes are in units of 1/72 inch, the units of the SVG's viewBox, so that a font size of 12 is 12 pixels when the figure
is shown at its own width. Axes and text of an SVG are drawn in ``currentColor`` and follow the page into dark mode. The
colours of data have a contrast of 3 against white and near-black, and differ in lightness for readers who cannot
distinguish blue from orange.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from . import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
else:  # importing matplotlib takes a second, so it happens only where something is drawn
    Axes = Figure = Any

BLUE = "#3a86c8"
ORANGE = "#d97706"
GRAY = "#8a8f98"
PALE = 0.35  # opacity of what lies behind
HALF = (480, 300)  # half the width of a page
THIRD = (340, 260)
SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK_ON_WHITE = "#444444"
INK_ON_ANY = "#808080"  # for pixels with a transparent background
_INK = "#010203"  # used for nothing else: becomes currentColor
_PIXELS_PER_UNIT = 1.5
_PIXELS_PER_UNIT_OF_FILES = 2.0


@contextmanager
def styled(ink: str = _INK) -> Iterator[None]:
    """Make matplotlib draw in this style inside the context; ``ink`` is the colour of axes and text."""
    import matplotlib

    look: dict[Any, Any] = {
        "axes.edgecolor": ink,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.labelcolor": ink,
        "axes.labelsize": 12,
        "axes.linewidth": 0.8,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": ink,
        "axes.titlelocation": "left",
        "axes.titlesize": 12,
        "axes.xmargin": 0.02,
        "figure.constrained_layout.use": True,
        "figure.dpi": 72,
        "figure.facecolor": "none",
        "font.family": "DejaVu Sans",
        "font.size": 12,
        "grid.alpha": 0.18,
        "grid.color": ink,
        "grid.linewidth": 0.8,
        "legend.borderpad": 0,
        "legend.fontsize": 11.5,
        "legend.frameon": False,
        "legend.handlelength": 1.6,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
        "svg.fonttype": "none",
        "svg.hashsalt": "sfumato",
        "text.color": ink,
        "xtick.color": ink,
        "xtick.labelsize": 11,
        "xtick.major.width": 0.8,
        "xtick.minor.visible": False,
        "ytick.color": ink,
        "ytick.labelsize": 11,
        "ytick.major.width": 0.8,
        "ytick.minor.visible": False,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # so that the user's matplotlibrc does not change a report
        matplotlib.rcParams.update(look)
        yield


def new_figure(width: int, height: int) -> Figure:
    """Return an empty figure of this size, made without pyplot, so that no window system is needed."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72))


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """Return the figure as an ``<svg>`` element; call it within ``styled()``. An open collection gets it as files.

    Arguments:
        figure: the figure; its text stays text.
        name: prefix of every id, different for each figure of a page.
        alt: description for screen readers.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", dpi=150, transparent=True)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # Scoped, because matplotlib's style rule would otherwise apply to the whole page.
    svg = svg.replace('<style type="text/css">*{', f'<style type="text/css">#{name} *{{')
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("'DejaVu Sans'", SANS).replace(_INK, "currentColor")
    opening = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert opening is not None
    width, height = (float(size) for size in opening.groups())
    start = (
        f'<svg id="{name}" class="figure" role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width:g} {height:g}" '
        f'style="max-width:{1.3 * width:.0f}px">'
    )
    svg = start + svg[svg.index(">") + 1 :].rstrip()
    if figures.collecting():
        alone = svg.replace("<svg ", f'<svg color="{INK_ON_WHITE}" width="{width:g}" height="{height:g}" ', 1)
        pixels = io.BytesIO()
        to_pixels(figure, pixels_per_unit=_PIXELS_PER_UNIT_OF_FILES).save(pixels, "PNG")
        figures.collect(name, svg=alone.encode(), png=pixels.getvalue(), csv=figures.numbers(figure).encode())
    return svg


def to_pixels(figure: Figure, clear: bool = False, pixels_per_unit: float = _PIXELS_PER_UNIT) -> Image.Image:
    """Return the figure in pixels: "RGB" on white, or "RGBA" on a transparent background with ``clear``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(72 * pixels_per_unit)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.array(canvas.buffer_rgba()))
    if clear:
        return drawn
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")


def plain_log(axes: Axes) -> None:
    """Label the logarithmic y axis with plain numbers, at a density that suits its range."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
