"""Images of several kinds made one kind: gray or RGB."""

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from .images import GRAY, RGB, Header

Kind = Literal["gray", "rgb"]
_CHANNELS = {"gray": GRAY, "rgb": RGB}
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def converted_header(header: Header, kind: Kind) -> Header:
    """The header of the image that ``convert`` makes.

    Raises:
        ValueError: the channels of the image are not gray, red, green, blue and alpha.
    """
    if header.channels[:1] != GRAY and header.channels[:3] != RGB:
        raise ValueError(f"its {header.num_channels} channels have no names, so they cannot be converted to {kind}")
    channels = _CHANNELS[kind]
    dtype = "uint8" if header.dtype == "bool" else header.dtype
    return replace(header, channels=channels, num_channels=len(channels), dtype=dtype)


def convert(values: Shaped[np.ndarray, "c h w"], header: Header, kind: Kind) -> Shaped[np.ndarray, "c2 h w"]:
    """Gray becomes three equal channels, colours become their luma (ITU-R BT.601), and alpha is dropped.

    Depth is kept, except that one bit becomes eight.
    """
    colours = values[: 3 if header.channels[:3] == RGB else 1]
    if kind == "rgb":
        return np.broadcast_to(colours, (3, *values.shape[1:]))
    if len(colours) == 1:
        return colours
    luma = np.tensordot(_LUMA, colours.astype(np.float32), 1)[None]
    gray: np.ndarray = (luma if values.dtype.kind == "f" else np.rint(luma)).astype(values.dtype)
    return gray
