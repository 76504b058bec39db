"""Samples as a folder of images, which can be read as data again: a PNG for each, a sub-folder for each class."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from sfumato.data import DataSpec
from sfumato.errors import InputError
from sfumato.files import reach, sweep, temporary

from .outputs import require_writable

_MODES = {("uint8", 1): "L", ("uint8", 2): "LA", ("uint8", 3): "RGB", ("uint8", 4): "RGBA", ("uint16", 1): "I;16"}


def require_new(flag: str, folder: Path) -> None:
    """Check that ``folder`` can be made. Raises InputError if there is something of its name, or it cannot be made."""
    if reach(folder):
        raise InputError(f"{flag} {folder}: exists; give the name of a new folder, or end the name in .png or .npz")
    require_writable(flag, folder)


def holds_images(spec: DataSpec) -> bool:
    """Whether PNG holds samples of this data."""
    return spec.layout.name == "image" and _kind(spec) in _MODES


def require_images(flag: str, folder: Path, spec: DataSpec) -> None:
    """Check that PNG holds samples of this data. Raises InputError if not."""
    if not holds_images(spec):
        shown = spec.layout.describe(spec.shape)
        raise InputError(
            f"{flag} {folder}: a folder is for images that PNG holds, not for {spec.dtype} {shown}; end the name in "
            ".npz or .png"
        )


def write_images(
    folder: Path, values: Shaped[np.ndarray, "n c h w"], classes: Sequence[str], spec: DataSpec
) -> list[Path]:
    """Write each image as ``folder``/CLASS/NUMBER.png, without classes as ``folder``/NUMBER.png. Returns [folder].

    The folder appears when all are written.

    Arguments:
        folder: a new one.
        values: in data units and of the data's type.
        classes: the class of each, or empty.
        spec: the contract.
    """
    from PIL import Image

    sweep(folder.parent, folder.name)
    beside, digits = temporary(folder), len(str(len(values) - 1))
    of_class = _folders(list(dict.fromkeys(classes)))
    try:
        for i, image in enumerate(values):
            home = beside / of_class[classes[i]] if classes else beside
            home.mkdir(parents=True, exist_ok=True)
            size, pixels = image.shape[:0:-1], np.moveaxis(image, 0, -1).tobytes()
            Image.frombytes(_MODES[_kind(spec)], size, pixels).save(home / f"{i:0{digits}d}.png")
        os.rename(beside, folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return [folder]


def _kind(spec: DataSpec) -> tuple[str, int]:
    return spec.dtype, spec.shape[0]


def _folders(classes: Sequence[str]) -> dict[str, str]:
    """A name of a folder for each class: its own, or a number with what can be kept of it where one would be unsafe."""
    safe = [re.sub(r"[^\w. -]", "_", name).strip(" .")[:80] for name in classes]
    if all(name == own for name, own in zip(classes, safe, strict=True)) and "" not in safe:
        return dict(zip(classes, safe, strict=True))
    return {name: f"{i}_{own}" for i, (name, own) in enumerate(zip(classes, safe, strict=True))}
