"""The building blocks of the page: a section, a figure with its caption, an image, a table."""

from collections.abc import Iterable
from html import escape

from PIL import Image

from . import text

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


def image(picture: Image.Image, alt: str, kind: str = "grid crisp") -> str:
    """A picture embedded in the page, whose pixels stay sharp when enlarged; "crisp" is for a single sample."""
    width, height = picture.size
    source = text.image_uri(picture) if kind != "crisp" else text.image_uri(picture, heavy=_HEAVY_CELL)
    return f'<img class="{kind}" src="{source}" width="{width}" height="{height}" alt="{escape(alt)}">'


def missing(sentence: str, command: str) -> str:
    """A sentence about something that is not there yet, and the command that creates it."""
    return f'<p class="missing">{sentence}. {command} creates them.</p>'
