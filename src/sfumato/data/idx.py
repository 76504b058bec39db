"""The idx files of MNIST and its kin: a big-endian header and one array, possibly compressed by gzip."""

import gzip
import math
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import no_permission
from .dataset import Content, DataOptions, full_range, reason, shown
from .images import GRAY, RGB
from .layouts import LayoutName

# The third byte of the header is the type, the fourth the number of axes (yann.lecun.com/exdb/mnist).
_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_HELD_OUT = ("t10k", "test", "val")  # how names of files begin that a model is judged by
_NAME = re.compile(r"(?P<stem>.+?)[-_.](?P<what>images|labels)[-_.](?P<rest>idx\d[-_.]ubyte|ubyte|idx)", re.IGNORECASE)


def is_idx(path: Path) -> bool:
    """Whether the name is that of an idx file: ends in .idx, -ubyte, or either with .gz."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith((".idx", "ubyte", ".idx1", ".idx3")) or bool(re.search(r"\.idx\d?$", name))


def idx_in(folder: Path) -> list[Path]:
    """The idx files of training images directly in a folder: those whose name says "images", and not t10k or test.

    Where one is there packed and unpacked, it is the unpacked one.
    """
    if not folder.is_dir():
        return []
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = _NAME.search(path.name)
        if is_idx(path) and name is not None and name["what"].lower() == "images" and path.is_file():
            found.setdefault(path.name.lower().removesuffix(".gz"), path)
    others = [path for name, path in found.items() if not name.startswith(_HELD_OUT)]
    return others or list(found.values())


def read_idx_folder(folder: Path, options: DataOptions) -> Content:
    """Read the training images in a folder such as MNIST's four files, with the labels beside them.

    Raises:
        InputError: several files of training images, or as ``read_idx``.
    """
    found = idx_in(folder)
    if len(found) > 1:
        named = " or ".join(shown(path) for path in found[:3])
        raise InputError(f"'{shown(folder)}' has {len(found)} idx files of images; give one of them: {named}")
    content = read_idx(found[0], options)
    return replace(content, notes=(f"the images are those in '{shown(found[0].name)}'", *content.notes))


def read_idx(path: Path, options: DataOptions) -> Content:
    """Read images, or vectors, and the labels in the file beside them whose name says "labels" instead of "images".

    Raises:
        InputError: a damaged file, a file of labels, or labels that are not one class per sample.
    """
    values = _array(path)
    if values.ndim == 1:
        raise InputError(f"'{shown(path)}' holds one number per sample, such as labels; give the file of images")
    notes: list[str] = []
    labels, names = _labels(path, len(values), notes)
    layout: LayoutName = "image" if values.ndim in (3, 4) else "vector"
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4 and values.shape[-1] in (1, 3):
        values = np.ascontiguousarray(np.moveaxis(values, -1, 1))
    else:
        values = values.reshape(len(values), -1)
    bounds, levels = full_range(values.dtype) if layout == "image" else (None, None)
    return Content(
        values=values.astype(values.dtype.newbyteorder("=")),
        layout=layout,
        bounds=bounds,
        levels=levels,
        channels={1: GRAY, 3: RGB}.get(values.shape[1], ()) if layout == "image" else (),
        labels=labels,
        class_names=names,
        notes=tuple(notes),
    )


def _array(path: Path) -> np.ndarray:
    where = f"'{shown(path)}'"
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except PermissionError:
        raise no_permission(shown(path)) from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{where} cannot be unpacked: {reason(error)}; download it again") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES or not 1 <= content[3] <= 4:
        raise InputError(f"{where} does not begin as an idx file does; download it again")
    dtype, rank = np.dtype(_TYPES[content[2]]), content[3]
    head = 4 + 4 * rank
    shape = tuple(np.frombuffer(content, ">u4", rank, 4).tolist()) if len(content) >= head else ()
    if not shape or len(content) - head != math.prod(shape) * dtype.itemsize:
        raise InputError(
            f"{where} is cut short or damaged: its header claims {' x '.join(map(str, shape)) or 'more axes'} numbers, "
            f"but {max(len(content) - head, 0):,} bytes follow; download it again"
        )
    if shape[0] == 0:
        raise InputError(f"{where} has no samples; give a file of images")
    return np.frombuffer(content, dtype, offset=head).reshape(shape)


def _labels(path: Path, count: int, notes: list[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The classes in the file beside, if there is one."""
    found = _NAME.search(path.name)
    if found is None or found["what"].lower() != "images":
        return None, ()
    pattern = re.compile(re.escape(found["stem"]) + r"[-_.]labels[-_.].*", re.IGNORECASE)
    beside = sorted(each for each in path.parent.iterdir() if pattern.fullmatch(each.name))
    if not beside:
        return None, ()
    classes = _array(beside[0])
    if classes.shape != (count,):
        raise InputError(
            f"'{shown(beside[0])}' has labels of shape {classes.shape} for {count:,} samples in '{shown(path)}'; give "
            "the pair that belongs together, or move the labels away"
        )
    present, labels = np.unique(classes, return_inverse=True)
    notes.append(f"labels come from '{shown(beside[0].name)}'")
    return labels.astype(np.int64), tuple(map(str, present.tolist()))
