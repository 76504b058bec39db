"""Equations as MathML, at build time: $...$ within a line, $$...$$ as a block. The pages need no script."""

import re
import xml.etree.ElementTree as etree
from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.blockprocessors import BlockProcessor
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

INLINE = r"(?<![\\$\w])\$(?![\s$])([^$]+?)(?<![\s\\])\$(?![\w$])"


FUNCTION = r"(<mi>(?:arctan|cos|det|exp|log|max|min|sin)</mi>)(?!<mo stretchy=\"false\">&#x00028;|</)"


def mathml(latex: str, display: str = "inline") -> str:
    """The equation, with a thin space between the name of a function and its argument."""
    return re.sub(FUNCTION, r'\1<mspace width="0.167em"/>', convert(latex, display=display))


class Inline(InlineProcessor):
    """``$x_t$`` within a line."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:
        """The equation, hidden from the other patterns."""
        return self.md.htmlStash.store(mathml(m[1])), m.start(0), m.end(0)


class Display(BlockProcessor):
    """A paragraph that begins and ends with ``$$``."""

    def test(self, parent: etree.Element, block: str) -> bool:
        """Whether the paragraph is an equation."""
        return block.strip().startswith("$$")

    def run(self, parent: etree.Element, blocks: list[str]) -> None:
        """Replace the paragraph by the equation."""
        text = blocks.pop(0).strip()
        if not (text.endswith("$$") and len(text) > 4):
            raise ValueError(f"an equation begins with $$ and does not end in its paragraph: {text}")
        box = etree.SubElement(parent, "div", {"class": "equation"})
        box.text = self.parser.md.htmlStash.store(mathml(text[2:-2].strip(), display="block"))


class Equations(Extension):
    """Both forms, for Python-Markdown."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Register them: before escapes are read, and before a paragraph is."""
        md.inlinePatterns.register(Inline(INLINE, md), "equation", 185)
        md.parser.blockprocessors.register(Display(md.parser), "equation", 95)


def on_config(config: Any) -> Any:
    """Add the extension to the site's (a hook of mkdocs)."""
    config.markdown_extensions.append(Equations())
    return config
