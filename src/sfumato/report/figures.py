"""The figures of a page as files of their own: SVG, PNG, and the numbers as CSV.

``style.to_svg`` and ``html.image`` hand each figure to the collection that is open, if one is, so that a section of the
page is written once and knows nothing of files.
"""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.files import write_with

_open: ContextVar[dict[str, dict[str, bytes]] | None] = ContextVar("figures", default=None)


@contextmanager
def collected() -> Iterator[dict[str, dict[str, bytes]]]:
    """Collect the figures that are drawn in this context: {name: {suffix: content}}."""
    found: dict[str, dict[str, bytes]] = {}
    token = _open.set(found)
    try:
        yield found
    finally:
        _open.reset(token)


def collecting() -> bool:
    """Whether a collection is open; what only files need is made only then."""
    return _open.get() is not None


def collect(name: str, **contents: bytes) -> None:
    """Add a figure to the open collection, if there is one: its content by suffix, without the dot."""
    found = _open.get()
    if found is not None:
        found[name] = contents


def write_figures(folder: Path, figures: dict[str, dict[str, bytes]]) -> None:
    """Write the figures into ``folder``, and delete the files of former ones there."""
    folder.mkdir(exist_ok=True)
    names = {f"{name}.{suffix}" for name, contents in figures.items() for suffix in contents}
    for file in folder.iterdir():
        if file.suffix in (".svg", ".png", ".csv") and file.name not in names:
            file.unlink()
    for name, contents in figures.items():
        for suffix, content in contents.items():
            write_with(folder / f"{name}.{suffix}", partial(_write, content))


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def numbers(figure: Any) -> str:
    """What a figure of matplotlib shows, as CSV: panel, series, x, y. Pictures and filled areas have no rows."""
    rows = []
    for k, axes in enumerate(figure.get_axes()):
        panel = axes.get_title(loc="left") or axes.get_ylabel() or str(k + 1)
        for name, x, y in _series(axes):
            rows += [(panel, name, f"{a:.9g}", f"{b:.9g}") for a, b in zip(x, y, strict=True)]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("panel", "series", "x", "y"))
    writer.writerows(rows)
    return file.getvalue()


def _series(axes: Any) -> Iterator[tuple[str, Any, Any]]:
    from matplotlib.collections import LineCollection, PathCollection
    from matplotlib.patches import StepPatch

    def named(artist: Any) -> str:
        label = str(artist.get_label())
        return "" if label.startswith("_") else label

    for line in axes.lines:
        yield named(line), line.get_xdata(orig=False), line.get_ydata(orig=False)
    for patch in axes.patches:
        if isinstance(patch, StepPatch) and not patch.get_fill():
            heights, edges, _ = patch.get_data()
            yield named(patch), (edges[1:] + edges[:-1]) / 2, heights
    for bars in axes.containers:
        if hasattr(bars, "patches"):
            middle = [bar.get_x() + bar.get_width() / 2 for bar in bars.patches]
            yield named(bars), middle, [bar.get_height() for bar in bars.patches]
    for many in axes.collections:
        if isinstance(many, PathCollection):
            x, y = np.ma.getdata(many.get_offsets()).reshape(-1, 2).T
            yield named(many), x, y
        elif isinstance(many, LineCollection):
            for i, segment in enumerate(many.get_segments()):
                yield named(many) or str(i + 1), *np.asarray(segment).reshape(-1, 2).T
