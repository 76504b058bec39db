"""Samples of any layout as one picture or as a movie: what ``sfumato sample --out`` writes and the report shows."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from sfumato.data.spec import DataSpec
from sfumato.errors import InputError
from sfumato.files import write_with

from .images import Values, arrange, fitting, grid
from .plots import plot, plot_frames

FRAMES_PER_SECOND = 12.0
_PAUSE = 1800  # milliseconds that the last frame, the result, stays
_FORMATS = {".gif": "GIF", ".webp": "WEBP"}


def picture(values: Values, spec: DataSpec, reference: Values | None = None) -> Image.Image:
    """Samples (n, *shape) in data units as one picture: a ``grid`` of images, a ``plot`` of signals and vectors.

    ``reference``, real data to compare with, gives a plot its other half; a grid takes its window from it where the
    data is not bounded. Raises InputError when ``values`` are not samples of the contract's shape.
    """
    if spec.layout.name == "image":
        return grid(values, spec, window_of=reference)
    return plot(values, spec, reference)


def movie(
    frames: Values,
    spec: DataSpec,
    path: str | os.PathLike[str],
    fps: int | float = FRAMES_PER_SECOND,
    reference: Values | None = None,
) -> Path:
    """Frames (f, j, *shape) in data units as an endless animation at ``path``, GIF or WebP by its ending.

    The last frame stays for 1.8 s. All frames share one window or one pair of axes: the contract's range, else that of
    the last frame (images) or of all frames (plots). The file is written beside its place and renamed.

    Raises InputError for another ending, for frames per second that are not positive, and for frames that are not
    samples of the contract's shape.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"{path}: a movie is a .gif or a .webp file; give a name that ends so")
    drawn = draw_frames(frames, spec, reference=reference)
    content = animate(drawn, _FORMATS[path.suffix.lower()], fps)
    write_with(path, lambda beside: beside.write_bytes(content))
    return path


def draw_frames(
    frames: Values,
    spec: DataSpec,
    columns: int | None = None,
    reference: Values | None = None,
    clear: bool = False,
) -> list[Image.Image]:
    """Frames (f, j, *shape) in data units as pictures of one size; ``columns`` and ``clear`` are those of ``grid``."""
    if frames.ndim < 2 or len(frames) == 0:
        raise InputError(f"movie: frames of shape {frames.shape} are none; give (f, j, *shape) with f >= 1")
    for frame in frames[:1]:
        fitting(frame, spec, "movie")
    if spec.layout.name != "image":
        return plot_frames(frames, spec, reference, clear)
    columns = arrange(frames.shape[1], *frames.shape[3:]) if columns is None else columns
    window_of = frames[-1] if reference is None else reference
    return [grid(frame, spec, columns, window_of=window_of, clear=clear) for frame in frames]


def animate(
    frames: list[Image.Image], format: str, fps: int | float = FRAMES_PER_SECOND, lossless: bool = True
) -> bytes:
    """The frames as an endless animation, ``format`` "GIF" or "WEBP", with a pause on the last.

    ``lossless`` is for WebP; without it the quality is 70, for noise does not compress and half of a movie is noise.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise InputError(f"fps: {fps} frames per second is not a speed; give a positive number")
    durations = [max(20, round(1000 / fps))] * (len(frames) - 1) + [_PAUSE]
    file = io.BytesIO()
    options = {"lossless": lossless, "quality": 70, "method": 4} if format == "WEBP" else {"disposal": 1}
    frames[0].save(file, format, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options)
    return file.getvalue()
