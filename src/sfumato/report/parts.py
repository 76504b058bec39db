"""The blocks that the page is built of: a section, a figure with its caption, an image, a table."""

import shlex
from collections.abc import Iterable
from html import escape

from PIL import Image

from . import text
from .run import Run

_HEAVY_CELL = 12_000  # bytes: the page has a hundred cells


def section(title: str, body: str) -> str:
    """A part of the page under its own heading."""
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>"


def figure(content: str, caption: str, wide: bool = False) -> str:
    """``content`` with its caption; what is ``wide`` keeps a legible size on a phone and scrolls sideways there."""
    inner = f'<div class="scroll">{content}</div>' if wide else content
    return f"<figure>{inner}<figcaption>{caption}</figcaption></figure>"


def titled(title: str, body: str) -> str:
    """One of several blocks side by side."""
    return f"<div><h3>{title}</h3>{body}</div>"


def beside(blocks: Iterable[str], columns: str = "two") -> str:
    """Blocks side by side, "two" or "three" of them where the page is wide enough."""
    return f'<div class="{columns}">{"".join(blocks)}</div>'


def folded(title: str, body: str) -> str:
    """What only some readers want, behind its title."""
    return f"<details><summary>{title}</summary>{body}</details>"


def table(rows: Iterable[tuple[str, str]]) -> str:
    """(name, value) pairs, escaped here."""
    cells = (f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<table class="plain">{"".join(cells)}</table>'


def image(picture: Image.Image, alt: str, kind: str = "grid crisp") -> str:
    """A picture inside the page, with pixels that stay sharp when they are enlarged; a "crisp" one is one sample."""
    width, height = picture.size
    source = text.image_uri(picture) if kind != "crisp" else text.image_uri(picture, heavy=_HEAVY_CELL)
    return f'<img class="{kind}" src="{source}" width="{width}" height="{height}" alt="{escape(alt)}">'


def missing(sentence: str, command: str) -> str:
    """What is not there, and the command that makes it."""
    return f'<p class="missing">{sentence}. {command} makes them.</p>'


def command(run: Run, verb: str) -> str:
    """The command line that applies ``verb``, such as "report" or "train --resume", to this run."""
    # An absolute path would tell whoever reads the page how the author's machine is laid out.
    folder = run.folder.name if run.folder.is_absolute() else str(run.folder)
    return f"<code>sfumato {verb} {escape(shlex.quote(folder))}</code>"


def things(run: Run) -> str:
    """What the run has seen: images or samples."""
    return "images" if run.spec.layout.name == "image" else "samples"
