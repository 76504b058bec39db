"""Read one image file without loss: gray stays gray, 16 bits stay 16 bits, floats stay floats."""

import functools
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

if TYPE_CHECKING:
    from PIL.Image import Image
    from tifffile import TiffFile

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff")
GRAY, RGB = ("gray",), ("red", "green", "blue")
_PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")  # no others, because some of Pillow's decoders run programs
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MODES = {
    "1": (GRAY, "bool"),
    "L": (GRAY, "uint8"),
    "LA": ((*GRAY, "alpha"), "uint8"),
    "RGB": (RGB, "uint8"),
    "RGBA": ((*RGB, "alpha"), "uint8"),
    "I;16": (GRAY, "uint16"),
    "F": (GRAY, "float32"),
}
_PNG_CHANNELS = {2: RGB, 4: (*GRAY, "alpha"), 6: (*RGB, "alpha")}  # by the colour type of a PNG
_MOST_RESIZED = 2**29  # pixels of an image that is made smaller
_CHUNK = 2**26  # numbers of an image that are resized at once
_MOST_VALUES = 2**30  # of a TIFF: more is treated as a decompression bomb; Pillow has its own limit
_ORIENTATION = 274  # number of the tag in EXIF and TIFF
# TIFF's numbers for the meaning of a sample.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _TIFF_RGB = 0, 1, 2
_PREMULTIPLIED, _ALPHA = 1, 2


@dataclass(frozen=True)
class Header:
    """What a file says about its image: size when upright, channels and their names (if they have any), frames."""

    height: int
    width: int
    num_channels: int
    channels: tuple[str, ...]
    dtype: str
    frames: int


File = str | io.BytesIO
"""The path of a file, or its content."""
Opened = tuple[Header, Callable[[], np.ndarray]]  # the function decodes to (h, w) or (h, w, c), upright


def probe(path: File, resized: bool = False) -> Header:
    """Read only the header; ``resized`` as for ``read``.

    Raises:
        Exception: whatever the decoder raises on a damaged file.
    """
    with _opened(path, resized) as (header, _):
        return header


def read(path: File, resized: bool = False) -> tuple[Header, Shaped[np.ndarray, "c h w"]]:
    """Read the header and the values of the first frame, channels first.

    Palettes become colours, CMYK becomes RGB, the orientation tag is applied, float64 and float16 become float32.

    Arguments:
        path: the file, or its content as an open file.
        resized: whether the image will be made smaller; then it may have more pixels than Pillow allows.

    Raises:
        Exception: whatever the decoder raises on a damaged file.
    """
    with _opened(path, resized) as (header, decode):
        values = decode()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinite values")
    return header, values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what decoders print about damaged files, for callers that report those themselves."""
    log = logging.getLogger("tifffile")
    was = log.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.disabled = True
        try:
            yield
        finally:
            log.disabled = was


def fit(values: Shaped[np.ndarray, "c h w"], size: tuple[int, int], alpha: bool) -> Shaped[np.ndarray, "c h2 w2"]:
    """Crop an image around its centre to the aspect ratio of ``size``, and resize it, in the same type.

    Each new pixel is the mean over the area that it covers, fractions of pixels included.

    Arguments:
        values: the image.
        size: (height, width).
        alpha: whether the last channel is alpha; colours are then weighted by it, so that invisible ones do not show.
    """
    height, width = values.shape[1:]
    if (height, width) == size:
        return values
    factor = min(height / size[0], width / size[1])
    # Channels last, so that one matrix product resizes all rows; of a very large image, only some rows at a time.
    weights, step = _area_means(height, size[0], factor), max(_CHUNK // (width * len(values)), 1)
    means = []
    for first in range(0, height, step):
        rows = np.ascontiguousarray(values[:, first : first + step].transpose(1, 2, 0), dtype=np.float32)
        if alpha:
            rows[..., :-1] *= rows[..., -1:]
        means.append(weights[:, first : first + step] @ rows.reshape(len(rows), -1))
    x = functools.reduce(np.add, means).reshape(size[0], width, -1)
    x = _area_means(width, size[1], factor) @ x
    if alpha:
        x[..., :-1] /= np.where(x[..., -1:] > 0, x[..., -1:], 1)
    # Booleans are rounded like numbers; a cast by numpy would make all but 0 true.
    resized: np.ndarray = (x if values.dtype.kind == "f" else np.rint(x)).astype(values.dtype).transpose(2, 0, 1)
    return resized


def _area_means(length: int, new: int, factor: float) -> np.ndarray:
    """(new, length): the weight of each old pixel in each new one, which covers ``factor`` old ones."""
    edges = (length - new * factor) / 2 + factor * np.arange(new + 1)
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: np.ndarray = (overlap.clip(min=0) / factor).astype(np.float32)
    return weights


@contextmanager
def _opened(path: File, resized: bool) -> Iterator[Opened]:
    with open(path, "rb") if isinstance(path, str) else path as file:
        start = file.read(26)
        file.seek(0)
        if not start:
            raise ValueError("the file is empty")
        if start.startswith(_TIFF_MAGIC):
            import tifffile

            with tifffile.TiffFile(file) as tiff:
                yield _tiff(file, tiff, resized)
        else:
            deep = start.startswith(b"\x89PNG") and start[24:25] == b"\x10"  # 16 bits per channel
            image = _identified(file, resized)
            yield _png_16(file, image, start[25]) if deep and start[25] in _PNG_CHANNELS else _pillow(image)


def _pillow(image: "Image") -> Opened:
    mode = "I;16" if image.mode.startswith("I;16") else image.mode
    if mode not in _MODES:
        mode = "RGBA" if image.has_transparency_data else "RGB"
    channels, dtype = _MODES[mode]
    # The size of a TIFF is that of the upright image, and Pillow turns it when it is loaded.
    turn = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION, 1)

    def decode() -> np.ndarray:
        values = np.asarray(image if mode in {image.mode, "I;16"} else image.convert(mode))
        return _upright(values.astype(dtype, copy=False), turn)

    # Only formats that can have several frames have the attribute.
    return _header(image.height, image.width, turn, channels, dtype, getattr(image, "n_frames", 1)), decode


def _png_16(file: io.BufferedReader | io.BytesIO, image: "Image", colour: int) -> Opened:
    """A PNG with 16-bit colours, which Pillow would reduce to 8 bits."""
    import png

    turn = image.getexif().get(_ORIENTATION, 1)
    channels = _PNG_CHANNELS[colour]

    def decode() -> np.ndarray:
        file.seek(0)
        width, height, rows, _ = png.Reader(file=file).read()
        values = np.array([np.asarray(row, np.uint16) for row in rows])
        return _upright(values.reshape(height, width, len(channels)), turn)

    return _header(image.height, image.width, turn, channels, "uint16", 1), decode


def _tiff(file: io.BufferedReader | io.BytesIO, tiff: "TiffFile", resized: bool) -> Opened:
    """A TIFF read by tifffile, which knows every type and number of channels; Pillow reads the common ones."""
    page = tiff.pages.first
    samples, photometric = page.samplesperpixel, page.photometric
    gray = photometric in {_BLACK_IS_ZERO, _WHITE_IS_ZERO}
    dtype = "none" if page.dtype is None else page.dtype.name
    known = set(page.extrasamples) <= {_PREMULTIPLIED, _ALPHA} and (not gray or samples - len(page.extrasamples) == 1)
    alone = photometric == _BLACK_IS_ZERO and samples == 1
    if (dtype in {"bool", "uint8"} and known) or (dtype in {"uint16", "float32"} and alone):
        file.seek(0)
        header, decode = _pillow(_identified(file, resized))
        return replace(header, frames=len(tiff.pages)), decode

    if not (gray or photometric == _TIFF_RGB) or page.axes not in {"YX", "YXS", "SYX"}:
        raise ValueError(
            f"a {dtype} TIFF of kind {photometric} with axes {page.axes} is not supported; save it as RGB or gray"
        )
    if np.dtype(dtype).kind not in "buif":
        raise ValueError(f"pixels of type {dtype} are not supported; save real numbers")
    if page.size > _MOST_VALUES:
        raise ValueError(f"it claims {page.size} values, more than {_MOST_VALUES}; split it or make it smaller")
    kept = "float32" if np.dtype(dtype).kind == "f" else dtype
    colours = RGB if photometric == _TIFF_RGB else GRAY
    names = (*colours, *("alpha" if extra == _ALPHA else "" for extra in page.extrasamples))
    channels = names if len(names) == samples and all(names) else samples
    turn = page.tags.valueof(_ORIENTATION, default=1)

    def decode_page() -> np.ndarray:
        try:
            values = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            how = getattr(page.compression, "name", page.compression)
            raise ValueError(f"its {how} compression needs imagecodecs; pip install imagecodecs") from None
        if photometric == _WHITE_IS_ZERO and values.dtype.kind == "u":
            values = np.iinfo(values.dtype).max - values
        values = np.moveaxis(values, 0, -1) if page.axes == "SYX" else values
        return _upright(values.astype(kept), turn)

    return _header(page.imagelength, page.imagewidth, turn, channels, kept, len(tiff.pages)), decode_page


def _identified(file: io.BufferedReader | io.BytesIO, resized: bool) -> "Image":
    import PIL.Image

    own = PIL.Image.MAX_IMAGE_PIXELS
    if resized:
        PIL.Image.MAX_IMAGE_PIXELS = _MOST_RESIZED // 2  # Pillow refuses twice as many
    try:
        return PIL.Image.open(file, formats=_PILLOW_FORMATS)
    except PIL.UnidentifiedImageError:
        raise ValueError("it is not a PNG, JPEG, WebP or TIFF image, despite its name") from None
    except PIL.Image.DecompressionBombError:
        most = 2 * (PIL.Image.MAX_IMAGE_PIXELS or 0)
        fix = "make it smaller" if resized else "set data.size, which allows more"
        raise ValueError(f"it has more than {most:,} pixels; {fix}") from None
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = own


def _header(height: int, width: int, turn: int, channels: tuple[str, ...] | int, dtype: str, frames: int) -> Header:
    if turn in {5, 6, 7, 8}:
        height, width = width, height
    names, number = ((), channels) if isinstance(channels, int) else (channels, len(channels))
    return Header(height, width, number, names, dtype, frames)


def _upright(values: np.ndarray, turn: int) -> np.ndarray:
    """Turn the stored rows and columns as the orientation tag asks."""
    if turn in {5, 6, 7, 8}:
        values = values.swapaxes(0, 1)
    if turn in {3, 4, 7, 8}:
        values = values[::-1]
    return values[:, ::-1] if turn in {2, 3, 6, 7} else values
