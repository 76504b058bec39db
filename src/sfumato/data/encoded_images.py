"""Images that are still encoded, under names, and how one of them is decoded."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .convert import convert, converted_header
from .dataset import DataOptions
from .images import File, Header, fit, read

Classes = tuple[np.ndarray | None, tuple[str, ...]]
"""The class of each image, and the names of the classes."""


@dataclass(frozen=True)
class Images:
    """Encoded images under names.

    Arguments:
        where: what holds them, for messages.
        names: their names, in order.
        opened: from a name to the path of a file, or to its content.
        classes: from the names of the images that were read, and the notes, to their classes.
        size: from a name to the bytes of the encoded image, without opening it; None if that is not known. Only then
            can images be decoded when they are needed.
    """

    where: str
    names: list[str]
    opened: Callable[[str], File]
    classes: Callable[[list[str], list[str]], Classes]
    size: Callable[[str], int] | None = None


def decode(image: File, options: DataOptions) -> tuple[Header, np.ndarray]:
    """One image (c, h, w) as the options ask for it, with its header.

    Raises:
        Exception: whatever the decoder raises on a damaged file.
    """
    header, values = read(image, resized=options.size is not None)
    if options.convert is not None and values.dtype.kind == "b":
        values = values.astype(np.uint8) * 255
    if options.size is not None:
        values = fit(values, options.size, "alpha" in header.channels)
    if options.convert is not None:
        kept = converted_header(header, options.convert)
        return kept, convert(values, header, options.convert)
    return header, values


def kind(header: Header) -> tuple[int, tuple[str, ...], str]:
    """What all images of a data set must have in common: channels, their names and the type."""
    return header.num_channels, header.channels, header.dtype
