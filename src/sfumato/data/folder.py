"""A folder of image files, read as one array."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..reporting import Progress
from . import mapped
from .assemble import pick
from .convert import converted_header
from .dataset import Content, DataOptions, full_range, reason, shown
from .decoded import MANY, DecodedImages, digest_of
from .encoded_images import Classes, Images, decode, kind
from .image_labels import read_classes, table_of
from .images import Header, probe, quiet
from .listing import list_images
from .order import permutation

_TRAIN = ("train", "training")
_HELD = ("test", "testing", "val", "valid", "validation", "dev", "eval", "holdout")
_STRAY = 4  # where more than one image in so many is in no sub-folder, the sub-folders are not taken for classes
_TRIED = 100  # images that are tried to learn the size of one
_LOOKED_AT = 512  # images, and ...
_VALUES = 2**24  # values of them, at most, that the contract of very many images is made from
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


def read_folder(
    folder: Path,
    options: DataOptions,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Content:
    """Read every PNG, JPEG, WebP and TIFF file in and below ``folder``, sorted by path.

    The classes are those in a table of two columns, the file and its class: ``labels.csv`` in the folder, or the one
    that ``data.labels`` names. Without one, the sub-folders of the first level are the classes, if there are at least
    two and nearly every image is in one; the few others are left out. Where the sub-folders are the splits of a data
    set, such as train and test, only the training part is read, and the classes are the sub-folders in it.

    Arguments:
        folder: the folder.
        options: how to read it.
        progress: called with (files done, files in total).
        warn: as for ``read_images``.

    Raises:
        InputError: no images; none that can be read; one that cannot be read where ``unreadable`` is "stop"; images
            that differ in channels, depth or (without ``size``) size; a table of classes that does not fit the images.
    """
    table = table_of(folder, options.labels)
    found, notes = list_images(folder, beside=table)
    root, by_folder = "", False
    if table is None:
        found, root = _training_part(found, notes)
        found, by_folder = _sorted_into_classes(found, root, notes)

    def classes(files: list[str], notes: list[str]) -> Classes:
        if table is None:
            return _labels([file[len(root) :].split("/")[0] for file in files]) if by_folder else (None, ())
        notes.append(f"labels come from {shown(table.name)}")
        return read_classes(table, files)

    def path(name: str) -> str:
        return os.path.join(folder, name)

    images = Images(shown(folder), found, path, classes, lambda name: os.path.getsize(path(name)))
    return read_images(images, options, notes, progress, warn)


def read_images(
    images: Images,
    options: DataOptions,
    notes: list[str],
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Content:
    """Decode images into one array, as ``read_folder`` does; of very many files, only a random part.

    The others are then decoded when they are needed. ``MANY`` files are very many, and so are those whose images take
    ``mapped.LARGE`` bytes, if their values have bounds; scale and offset of others need all of them.

    Arguments:
        images: the images.
        options: how to read them.
        notes: what is known already, which gets more.
        progress: called with (images done, images in total).
        warn: receives a sentence for each image that another one replaces, as soon as it is needed.

    Raises:
        InputError: as ``read_folder``.
    """
    found = images.names
    names = [found[i] for i in pick(len(found), options.limit)]
    if len(names) < len(found):
        notes.append(f"{len(names)} of {len(found)} files are used (data.limit)")
    part = _part(images, names, options)
    values, kept, skipped = _decoded(images, part or names, options, progress)
    if skipped:
        left_out = f"{len(skipped)} of {len(part or names)} images in '{images.where}' cannot be read"
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
    bounds, levels = full_range(values.dtype)
    content = Content(
        values=values[: len(kept)],
        layout="image",
        bounds=bounds,
        levels=levels,
        channels=kept[0][1].channels,
        skipped=tuple(skipped),
    )
    if part is None:
        labels, class_names = images.classes([name for name, _ in kept], notes)
        return replace(content, labels=labels, class_names=class_names, notes=tuple(notes))
    return _with_the_others(content, images, names, options, kept[0][1], notes, warn)


def _part(images: Images, names: list[str], options: DataOptions) -> list[str] | None:
    """The images that are decoded at first; None for all of them."""
    if images.size is None:
        return None
    order = permutation(len(names), "looked at").tolist()
    with quiet():
        for i in order[:_TRIED]:
            try:
                image = decode(images.opened(names[i]), options)[1]
            except Exception:  # decoders raise nearly everything on damaged files
                continue
            few = len(names) < MANY and len(names) * image.nbytes < mapped.LARGE
            if few or full_range(image.dtype)[0] is None:
                return None
            return [names[j] for j in sorted(order[: max(min(_LOOKED_AT, _VALUES // image.size), 1)])]
    return None


def _with_the_others(
    content: Content,
    images: Images,
    names: list[str],
    options: DataOptions,
    like: Header,
    notes: list[str],
    warn: Callable[[str], None],
) -> Content:
    """The content of all images ``names``, of which some have been decoded and were like ``like``."""
    assert images.size is not None
    bad = {name for name, _ in content.skipped}
    names = [name for name in names if name not in bad]
    sizes = [images.size(name) for name in names]
    empty = [(name, "the file is empty") for name, size in zip(names, sizes, strict=True) if size == 0]
    if empty and options.unreadable == "stop":
        raise InputError(
            f"{len(empty)} files in '{images.where}' are empty; the first: '{shown(empty[0][0])}'; replace or remove "
            "them, or set data.unreadable=skip"
        )
    names, sizes = [n for n, size in zip(names, sizes, strict=True) if size], [size for size in sizes if size]
    labels, class_names = images.classes(names, notes)
    return replace(
        content,
        labels=labels,
        class_names=class_names,
        skipped=(*content.skipped, *empty),
        notes=tuple(notes),
        stored=DecodedImages(replace(images, names=names), options, like, content.values.shape[1:], warn),
        digest=digest_of(names, sizes),
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
                header, image = decode(images.opened(name), options)
            except Exception as error:  # decoders raise nearly everything on damaged files
                skipped.append((name, reason(error)))
            else:
                if values is None:
                    values = np.empty((len(names), *image.shape), image.dtype)
                elif kind(header) != kind(kept[0][1]) or image.shape != values.shape[1:]:
                    raise _mixed(images, names, options)
                values[len(kept)] = image
                kept.append((name, header))
            if progress is not None:
                progress(done, len(names))
    return values, kept, skipped


def _training_part(names: list[str], notes: list[str]) -> tuple[list[str], str]:
    """The images to train on, and how their paths begin: "train/" where the sub-folders are splits, else ""."""
    firsts = sorted({name.split("/")[0] for name in names if "/" in name})
    own = [first for first in firsts if first.lower() in _TRAIN]
    if len(own) != 1 or any(first.lower() not in (*_TRAIN, *_HELD) for first in firsts):
        return names, ""
    kept = [name for name in names if name.startswith(f"{own[0]}/")]
    held = [first for first in firsts if first not in own]
    if len(kept) < len(names):
        left_out = " and ".join(f"'{shown(first)}'" for first in held) or "what is outside of it"
        notes.append(
            f"'{shown(own[0])}' is the training part and is read; {left_out} ({len(names) - len(kept)} images) is left "
            "out, to judge the model by"
        )
    return kept, f"{own[0]}/"


def _sorted_into_classes(names: list[str], root: str, notes: list[str]) -> tuple[list[str], bool]:
    """The images to read, and whether the first folders of their paths below ``root`` are classes.

    They are if there are at least two, and at most one image in ``_STRAY`` is in none of them: such images are left out
    and named. With more of them the folders are no classes; ``notes`` gets a sentence in either case.
    """
    inside = [name for name in names if "/" in name[len(root) :]]
    stray = [name for name in names if "/" not in name[len(root) :]]
    number = len({name[len(root) :].split("/")[0] for name in inside})
    if number < 2:
        return names, False
    if not stray:
        return names, True
    few = len(stray) * _STRAY <= len(names)
    several = f"{len(stray)} {'image is' if len(stray) == 1 else 'images are'}"
    if few:
        notes.append(
            f"{several} in none of the {number} class folders and left out (the first: {shown(stray[0])}); move or "
            "remove them"
        )
        return inside, True
    notes.append(
        f"the {number} sub-folders are not read as classes, because {several} in none of them (the first: "
        f"{shown(stray[0])}); move or remove these to train on classes"
    )
    return names, False


def _labels(firsts: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The class of each image, by the name of its folder."""
    classes = sorted(set(firsts))
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[first] for first in firsts], dtype=np.int64), tuple(map(shown, classes))


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
