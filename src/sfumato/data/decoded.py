"""Images that are decoded when a batch needs them, with a bounded cache."""

import hashlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Int64, Shaped
from torch import Tensor

from ..errors import InputError
from .dataset import DataOptions, reason, shown
from .encoded_images import Images, decode, kind
from .images import Header, quiet
from .stored import tensor_of

MANY = 100_000  # files that are not all decoded before training
_CACHE = 2**29  # bytes of decoded images that are kept
_IN_A_ROW = 100  # images that cannot be read one after the other, before reading ends


class DecodedImages:
    """Images as ``Stored`` values: decoded when asked for. The first ones that fit are kept in memory.

    Training asks in a new random order in each pass, so which images are kept does not matter, only how many: with a
    cache of a third of the data, a third is not decoded again.

    An image that turns out to be unreadable is an error, or, if the options say "skip", the next one that can be read
    takes its place. So the samples remain a function of the indices and the files.

    Arguments:
        images: the images.
        options: how to read them.
        like: the header of one image, whose kind all others must have.
        shape: (c, h, w) of a decoded image.
        warn: receives a sentence for each image that another one replaces.
    """

    def __init__(
        self,
        images: Images,
        options: DataOptions,
        like: Header,
        shape: tuple[int, ...],
        warn: Callable[[str], None],
    ) -> None:
        self._images, self._options, self._like, self._shape, self._warn = images, options, like, shape, warn
        self._dtype = np.dtype(like.dtype)
        each = int(np.prod(shape)) * self._dtype.itemsize
        # Memory of an empty array is taken page by page, as it is written.
        self._kept = np.empty((min(_CACHE // each, len(images.names)), *shape), self._dtype)
        self._slot = np.full(len(images.names), -1, np.int32)  # where an image is among those kept
        self._used = 0
        self._warned: set[int] = set()

    def __len__(self) -> int:
        return len(self._images.names)

    @property
    def note(self) -> str:
        """What stays where, as a sentence."""
        each = self._kept[:1].nbytes or int(np.prod(self._shape)) * self._dtype.itemsize
        part = min(len(self._kept) / len(self), 1)
        memory = "all of them" if part == 1 else f"{len(self._kept) * each / 1e9:.1f} GB of them, {part:.0%},"
        return (
            f"images are decoded when they are needed, and {memory} are kept in memory; those that cannot be read are "
            "found then"
        )

    def rows(self, index: Int64[Tensor, "k"]) -> Shaped[Tensor, "k c h w"]:
        """Decode the images with these indices, in this order.

        Raises:
            InputError: an image of another kind or size, one that cannot be read where ``unreadable`` is "stop", or
                very many of them.
        """
        found = np.empty((len(index), *self._shape), self._dtype)
        with quiet():
            for k, i in enumerate(index.tolist()):
                found[k] = self._image(i)
        return tensor_of(found)

    def _image(self, i: int) -> np.ndarray:
        if self._slot[i] >= 0:
            kept: np.ndarray = self._kept[self._slot[i]]
            return kept
        image = self._decoded(i)
        if self._used < len(self._kept):
            self._kept[self._used], self._slot[i] = image, self._used
            self._used += 1
        return image

    def _decoded(self, i: int) -> np.ndarray:
        why = ""
        for step in range(_IN_A_ROW):
            name = self._images.names[(i + step) % len(self)]
            try:
                header, image = decode(self._images.opened(name), self._options)
            except Exception as error:  # decoders raise nearly everything on damaged files
                why = why or reason(error)
                if self._options.unreadable == "stop":
                    break
                continue
            self._require_alike(name, header, image.shape)
            if step and i not in self._warned:
                self._warned.add(i)
                self._warn(f"{self._name(i)} cannot be read ({why}); {self._name(i + step)} takes its place")
            return image
        fix = "put back the files"
        if self._options.unreadable == "stop":
            fix = "replace or remove it, or set data.unreadable=skip"
        raise InputError(f"{self._name(i)} in '{self._images.where}' cannot be read ({why}); {fix}")

    def _require_alike(self, name: str, header: Header, shape: tuple[int, ...]) -> None:
        if kind(header) == kind(self._like) and shape == self._shape:
            return
        found, expected = (
            f"{h}x{w}, {c} channels, {dtype}"
            for (c, h, w), dtype in ((shape, header.dtype), (self._shape, self._dtype))
        )
        fix = "set data.size, or move it away" if shape[1:] != self._shape[1:] else "set data.convert, or move it away"
        raise InputError(f"'{shown(name)}' in '{self._images.where}' is {found}, but others are {expected}; {fix}")

    def _name(self, i: int) -> str:
        return f"'{shown(self._images.names[i % len(self)])}'"


def digest_of(names: list[str], sizes: list[int]) -> str:
    """SHA-256, in hexadecimal, of the names of files and their sizes in bytes."""
    digest = hashlib.sha256()
    for name, size in zip(names, sizes, strict=True):
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
