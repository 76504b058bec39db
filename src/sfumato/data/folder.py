"""A folder of image files, read as one array."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..reporting import Progress
from .assemble import pick
from .convert import convert, converted_header
from .dataset import Content, DataOptions, full_range, reason, shown
from .image_labels import read_classes, table_of
from .images import File, Header, fit, probe, quiet, read
from .listing import list_images

_ONE_KIND = "set data.convert=rgb or data.convert=gray, or move each kind to its own folder"


class SizesError(InputError):
    """Images of several sizes.

    Arguments:
        found: which sizes, as a sentence.
        size: (height, width) to recommend.
    """

    def __init__(self, found: str, size: tuple[int, int]) -> None:
        super().__init__(f"{found}; set data.size={size[0]}x{size[1]} or another size to crop and resize them")
        self.found = found


def read_folder(folder: Path, options: DataOptions, progress: Progress | None = None) -> Content:
    """Read every PNG, JPEG, WebP and TIFF file in and below ``folder``, sorted by path.

    The classes are those in a table of two columns, the file and its class: ``labels.csv`` in the folder, or the one
    that ``data.labels`` names. Without one, the sub-folders of the first level are the classes, if there are at least
    two and every image is in one.

    Arguments:
        folder: the folder.
        options: how to read it.
        progress: called with (files done, files in total).

    Raises:
        InputError: no images; none that can be read; one that cannot be read where ``unreadable`` is "stop"; images
            that differ in channels, depth or (without ``size``) size; a table of classes that does not fit the images.
    """
    table = table_of(folder, options.labels)
    found, notes = list_images(folder, beside=table)

    def classes(files: list[str], notes: list[str]) -> Classes:
        if table is None:
            return _classes(files, notes)
        notes.append(f"labels come from {shown(table.name)}")
        return read_classes(table, files)

    return read_images(
        Images(shown(folder), found, lambda name: os.path.join(folder, name), classes), options, notes, progress
    )


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
    """

    where: str
    names: list[str]
    opened: Callable[[str], File]
    classes: Callable[[list[str], list[str]], Classes]


def read_images(images: Images, options: DataOptions, notes: list[str], progress: Progress | None = None) -> Content:
    """Decode images into one array, as ``read_folder`` does.

    Arguments:
        images: the images.
        options: how to read them.
        notes: what is known already, which gets more.
        progress: called with (images done, images in total).

    Raises:
        InputError: as ``read_folder``.
    """
    found = images.names
    names = [found[i] for i in pick(len(found), options.limit)]
    if len(names) < len(found):
        notes.append(f"{len(names)} of {len(found)} files are used (data.limit)")
    values, kept, skipped = _decoded(images, names, options, progress)
    if skipped:
        left_out = f"{len(skipped)} of {len(names)} images in '{images.where}' cannot be read"
        first = f"the first: '{shown(skipped[0][0])}', {skipped[0][1]}"
        if values is None or options.unreadable == "stop":
            fix = "replace the files" if values is None else "replace or remove them, or set data.unreadable=skip"
            raise InputError(f"{left_out}; {first}; {fix}")
        notes.append(f"{left_out} and are left out; {first}")
    assert values is not None, "there are names, and not all of them were skipped"
    frames = sum(header.frames > 1 for _, header in kept)
    if frames:
        notes.append(f"{frames} files have several frames or pages; only the first is read")
    height, width = options.size or (0, 0)
    enlarged = sum(header.height < height or header.width < width for _, header in kept)
    if enlarged:
        notes.append(f"{enlarged} images are smaller than data.size in some direction and are enlarged")
    labels, class_names = images.classes([name for name, _ in kept], notes)
    bounds, levels = full_range(values.dtype)
    return Content(
        values=values[: len(kept)],
        layout="image",
        bounds=bounds,
        levels=levels,
        channels=kept[0][1].channels,
        labels=labels,
        class_names=class_names,
        skipped=tuple(skipped),
        notes=tuple(notes),
    )


def _decoded(
    images: Images, names: list[str], options: DataOptions, progress: Progress | None
) -> tuple[np.ndarray | None, list[tuple[str, Header]], list[tuple[str, str]]]:
    """The images in one array, their files with headers, and the skipped files with the reason."""
    values: np.ndarray | None = None
    kept: list[tuple[str, Header]] = []
    skipped: list[tuple[str, str]] = []
    with quiet():
        for done, name in enumerate(names, start=1):
            try:
                header, image = _read(images.opened(name), options)
            except Exception as error:  # decoders raise nearly everything on damaged files
                skipped.append((name, reason(error)))
            else:
                if values is None:
                    values = np.empty((len(names), *image.shape), image.dtype)
                elif _kind(header) != _kind(kept[0][1]) or image.shape != values.shape[1:]:
                    raise _mixed(images, names, options)
                values[len(kept)] = image
                kept.append((name, header))
            if progress is not None:
                progress(done, len(names))
    return values, kept, skipped


def _read(path: File, options: DataOptions) -> tuple[Header, np.ndarray]:
    """One image as the options ask for it."""
    header, image = read(path, resized=options.size is not None)
    if options.convert is not None and image.dtype.kind == "b":
        image = image.astype(np.uint8) * 255
    if options.size is not None:
        image = fit(image, options.size, "alpha" in header.channels)
    if options.convert is not None:
        kept = converted_header(header, options.convert)
        return kept, convert(image, header, options.convert)
    return header, image


def _classes(names: list[str], notes: list[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The class of each file: the first folder of its path, if all files have one and there are two or more.

    Where only some files have one, there are no classes, and ``notes`` gets a sentence about it.
    """
    firsts = [name.split("/")[0] for name in names if "/" in name]
    classes = sorted(set(firsts))
    if len(classes) < 2:
        return None, ()
    if len(firsts) < len(names):
        stray = [name for name in names if "/" not in name]
        notes.append(
            f"the {len(classes)} sub-folders are not read as classes, because {len(stray)} images are in none of them "
            f"(the first: {shown(stray[0])}); move or remove these to train on classes"
        )
        return None, ()
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[first] for first in firsts], dtype=np.int64), tuple(map(shown, classes))


def _kind(header: Header) -> tuple[int, tuple[str, ...], str]:
    return header.num_channels, header.channels, header.dtype


def _mixed(images: Images, names: list[str], options: DataOptions) -> InputError:
    """The error for images of several kinds, which reads the headers of all of them."""
    headers: list[tuple[str, Header]] = []
    for name in names:
        try:
            header = probe(images.opened(name), resized=options.size is not None)
            headers.append((name, header if options.convert is None else converted_header(header, options.convert)))
        except Exception:  # a damaged file does not matter here
            continue

    def groups(of: Callable[[Header], str]) -> tuple[int, str]:
        """The number of groups, and the two largest with an example of each."""
        counts = Counter(of(header) for _, header in headers)
        example = {of(header): name for name, header in reversed(headers)}
        largest = [f"{what} ({n} files, such as '{shown(example[what])}')" for what, n in counts.most_common(2)]
        return len(counts), " and ".join(largest)

    where = f"images in '{images.where}'"
    number, listed = groups(lambda h: "+".join(h.channels) or f"{h.num_channels} channels")
    if number > 1:
        return InputError(f"{where} differ in channels: {listed}; {_ONE_KIND}")
    number, listed = groups(lambda h: h.dtype)
    if number > 1 or options.size is not None:
        return InputError(f"{where} differ in depth: {listed}; convert them, or move each kind to its own folder")
    number, listed = groups(lambda h: f"{h.height}x{h.width}")
    commonest = Counter((h.height, h.width) for _, h in headers).most_common(1)[0][0]
    return SizesError(f"{where} have {number} sizes (height x width): {listed}", commonest)
