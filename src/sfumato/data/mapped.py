"""Arrays that stay in their file: rows are read when they are asked for, and pages are given back after use."""

import mmap
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

LARGE = 2**30  # bytes of an array that stays in its file
_AS_THEY_ARE = {"float32", "uint8", "int8", "int16", "int32", "int64"}  # types that torch reads in place
_GIVEN_BACK = 2**26  # bytes of memory between two times of giving pages back
_AROUND = 2**21  # bytes that Linux maps with a page that is asked for: of its large pages, about 1 MB was measured


def may_stay(dtype: np.dtype, bytes_: int) -> bool:
    """Whether an array of this type and size is left in its file: a large one whose values need no conversion."""
    return bytes_ >= LARGE and dtype.isnative and dtype.name in _AS_THEY_ARE


def open_mapped(path: Path) -> np.memmap:
    """The array of an .npy file, in the file.

    Writable for torch, but the file never changes (copy on write).
    """
    return np.lib.format.open_memmap(path, mode="c")


def is_mapped(values: np.ndarray) -> bool:
    """Whether the values are in a file."""
    return _mapping(values) is not None


def give_back(values: np.ndarray) -> None:
    """Free the memory of what was read of a mapped array; it is read again when needed. Nothing for other arrays."""
    if (mapping := _mapping(values)) is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _mapping(values: object) -> mmap.mmap | None:
    while isinstance(values, np.ndarray):
        values = values.base
    return values if isinstance(values, mmap.mmap) else None


class MappedArray:
    """A mapped array as ``Stored`` values.

    Arguments:
        values: (N, *shape), in a file, in data units.
    """

    def __init__(self, values: Shaped[np.ndarray, "n ..."]) -> None:
        self._values, self._read = values, 0

    def __len__(self) -> int:
        return len(self._values)

    @property
    def note(self) -> str:
        """What stays in the file, as a sentence."""
        return f"{self._values.nbytes / 1e9:.1f} GB stay in the file; samples are read from it when they are needed"

    def rows(self, index: Int64[Tensor, "k"]) -> Shaped[Tensor, "k ..."]:
        """A copy of the rows with these indices. The memory of the file is given back after every 64 MiB, at most."""
        array, at = np.asarray(self._values), index.cpu().numpy()
        rows = np.empty((len(at), *array.shape[1:]), array.dtype)
        row = self._values[:1].nbytes + _AROUND
        step = max(_GIVEN_BACK // row, 1)
        for first in range(0, len(at), step):
            rows[first : first + step] = array[at[first : first + step]]
            self._read += len(at[first : first + step]) * row
            if self._read >= _GIVEN_BACK:
                self._read = 0
                give_back(self._values)
        return torch.from_numpy(rows)
