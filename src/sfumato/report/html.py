"""The building blocks of the page: a section, a figure with its caption, an image, a table."""

import io
import re
from collections.abc import Iterable
from html import escape

from PIL import Image

from . import figures, text

_HEAVY_CELL = 12_000  # bytes: the page has a hundred cells


def section(title: str, body: str) -> str:
    """A section of the page under its own heading."""
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>"


def figure(content: str, caption: str, wide: bool = False) -> str:
    """``content`` with its caption; a ``wide`` one keeps a legible size on a phone and scrolls sideways."""
    inner = f'<div class="scroll">{content}</div>' if wide else content
    return f"<figure>{inner}<figcaption>{caption}</figcaption></figure>"


def titled(title: str, body: str) -> str:
    """One of several blocks side by side, with a title."""
    return f"<div><h3>{title}</h3>{body}</div>"


def beside(blocks: Iterable[str], columns: str = "two") -> str:
    """Blocks side by side, "two" or "three" per row where the page is wide enough."""
    return f'<div class="{columns}">{"".join(blocks)}</div>'


def folded(title: str, body: str) -> str:
    """A body that is hidden until its title is clicked."""
    return f"<details><summary>{title}</summary>{body}</details>"


def table(rows: Iterable[tuple[str, str]]) -> str:
    """A table of (name, value) pairs, which are escaped here."""
    cells = (f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<table class="plain">{"".join(cells)}</table>'


def columns(names: Iterable[str], rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """A table with a column for each of ``names``: rows of a label and their values, all escaped here."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>{"".join(f"<td>{escape(value)}</td>" for value in values)}</tr>'
        for label, values in rows
    )
    return f'<div class="scroll"><table class="plain"><tr><td></td>{head}</tr>{body}</table></div>'


def image(picture: Image.Image, alt: str, kind: str = "grid crisp") -> str:
    """A picture embedded in the page, whose pixels stay sharp when enlarged.

    "crisp" is for a single sample; an open collection of figures gets the others, named by ``alt``.
    """
    width, height = picture.size
    if kind != "crisp" and figures.collecting():
        file = io.BytesIO()
        picture.save(file, "PNG")
        figures.collect(re.sub(r"[^a-z0-9]+", "_", alt.lower()).strip("_"), png=file.getvalue())
    source = text.image_uri(picture) if kind != "crisp" else text.image_uri(picture, heavy=_HEAVY_CELL)
    return f'<img class="{kind}" src="{source}" width="{width}" height="{height}" alt="{escape(alt)}">'


def missing(sentence: str, command: str) -> str:
    """A sentence about something that is not there yet, and the command that creates it."""
    return f'<p class="missing">{sentence}. {command} creates them.</p>'
