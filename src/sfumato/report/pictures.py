"""Samples of any layout as one picture or as a movie: what ``sfumato sample --out`` writes and the report shows."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sfumato.data.spec import DataSpec
from sfumato.errors import InputError
from sfumato.files import write_with

from .drawings import drawing_of
from .image_grid import Values, fitting, grid

FRAMES_PER_SECOND = 12.0
_PAUSE = 1800  # milliseconds that the last frame, the result, stays
_ROW, _CELL, _NAME = 16, 48, 24  # of a sheet of classes: images in a row, pixels of a small one, and of a name
_FORMATS = {".gif": "GIF", ".webp": "WEBP"}


def picture(values: Values, spec: DataSpec, reference: Values | None = None) -> Image.Image:
    """Draw samples as one picture: a grid of images, or a plot of signals or vectors.

    Arguments:
        values: (n, *shape) in data units.
        spec: the data contract.
        reference: real data. A plot shows it beside the samples; a grid of unbounded images takes its range of grays
            from it.

    Raises:
        InputError: ``values`` or ``reference`` do not have the shape of this data.
    """
    return drawing_of(spec).picture(values, spec, reference)


def class_sheet(values: Values, classes: Sequence[str], spec: DataSpec) -> Image.Image:
    """Draw samples class by class, in the order of their first samples: below each name the samples of that class.

    Images stand in rows of at most ``_ROW``, with one range of grays for all. Signals and vectors have a plot per
    class.

    Arguments:
        values: (n, *shape) in data units.
        classes: the class of each sample.
        spec: the data contract.

    Raises:
        InputError: ``values`` do not have the shape of this data.
    """
    of = {name: values[[each == name for each in classes]] for name in dict.fromkeys(classes)}
    columns = min(max(map(len, of.values())), _ROW)
    scale = max(1, _CELL // max(spec.shape[1:], default=1))
    drawn = [
        grid(own, spec, columns, scale, window_of=values) if spec.layout.dimensions == 2 else picture(own, spec)
        for own in of.values()
    ]
    width, height = max(each.width for each in drawn), sum(each.height + _NAME for each in drawn)
    sheet = Image.new("RGB", (width, height), "white")
    pen, top = ImageDraw.Draw(sheet), 0
    for name, each in zip(of, drawn, strict=True):
        pen.text((4, top + 4), name or "no class", fill="black", font=ImageFont.load_default(_NAME - 10))
        sheet.paste(each.convert("RGB"), (0, top + _NAME))
        top += each.height + _NAME
    return sheet


def movie(
    frames: Values,
    spec: DataSpec,
    path: str | os.PathLike[str],
    fps: int | float = FRAMES_PER_SECOND,
    reference: Values | None = None,
) -> Path:
    """Write an endless animation and return its path.

    All frames have the same range of grays or the same axes: the bounds of the data, else those of the last frame
    (images) or of all frames (plots). The last frame stays for 1.8 s. An interrupted call leaves no incomplete file.

    Arguments:
        frames: (f, n, *shape) in data units.
        spec: the data contract.
        path: a file that ends in .gif or .webp.
        fps: frames per second.
        reference: real data, as for ``picture``.

    Raises:
        InputError: another ending, a speed that is not positive, or frames that do not have the shape of this data.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"{path}: a movie is a .gif or a .webp file; choose a name with one of these endings")
    if frames.ndim < 2 or len(frames) == 0:
        raise InputError(f"movie: shape {frames.shape} holds no frames; give (f, n, *shape) with f >= 1")
    fitting(frames[0], spec, "movie")
    content = animate(drawing_of(spec).pictures(frames, spec, reference), _FORMATS[path.suffix.lower()], fps)
    write_with(path, lambda beside: beside.write_bytes(content))
    return path


def animate(
    frames: list[Image.Image], format: str, fps: int | float = FRAMES_PER_SECOND, lossless: bool = True
) -> bytes:
    """Encode frames as an endless animation that pauses on the last one.

    Arguments:
        frames: pictures of one size.
        format: "GIF" or "WEBP".
        fps: frames per second.
        lossless: for WebP. Lossy animations have quality 70: noise does not compress, and half of a movie is noise.

    Raises:
        InputError: a speed that is not positive.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise InputError(f"fps: {fps} frames per second is not a speed; give a positive number")
    durations = [max(20, round(1000 / fps))] * (len(frames) - 1) + [_PAUSE]
    file = io.BytesIO()
    options = {"lossless": lossless, "quality": 70, "method": 4} if format == "WEBP" else {"disposal": 1}
    frames[0].save(file, format, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options)
    return file.getvalue()
