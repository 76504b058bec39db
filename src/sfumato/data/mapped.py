"""Arrays that stay in their file: rows are read when they are asked for, and pages are given back after use."""

import mmap
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from .samples import Samples
from .spec import DataSpec

LARGE = 2**30  # bytes of an array that stays in its file
_AS_THEY_ARE = {"float32", "uint8", "int8", "int16", "int32", "int64"}  # types that torch reads in place
_GIVEN_BACK = 2**26  # bytes of memory between two times of giving pages back
_AROUND = 2**16  # bytes that Linux maps around a page that is asked for, at most


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


class Mapped:
    """The samples of a mapped array, a ``SampleSource``: ``take`` reads rows and encodes them.

    What it returns is a function of the indices alone, as for samples in memory, so the order of batches and a resumed
    run are the same.

    Arguments:
        values: (N, *shape), in a file, in data units.
        spec: the contract.
        labels: (N,), or None.
        device: where samples are returned.
    """

    def __init__(
        self,
        values: Shaped[np.ndarray, "n ..."],
        spec: DataSpec,
        labels: Int64[Tensor, "n"] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self._values, self._spec, self._labels, self._read = values, spec, labels, 0

    def __len__(self) -> int:
        return len(self._values)

    def take(self, index: Int64[Tensor, "n"]) -> Samples:
        """The samples with these indices, in this order."""
        index = index.cpu()
        rows = rows_of(self._values, index)
        self._read += len(index) * _memory_of_a_row(self._values)
        if self._read >= _GIVEN_BACK:
            self._read = 0
            give_back(self._values)
        labels = None if self._labels is None else self._labels[index].to(self.device)
        return Samples(self._spec.encode(rows).to(self.device), None, labels)


def rows_of(values: Shaped[np.ndarray, "n ..."], index: Int64[Tensor, "k"]) -> Shaped[Tensor, "k ..."]:
    """A copy of the rows with these indices. Of many, the memory of the file is given back in between."""
    array, at = np.asarray(values), index.numpy()
    rows = np.empty((len(at), *array.shape[1:]), array.dtype)
    step = max(_GIVEN_BACK // _memory_of_a_row(values), 1)
    for first in range(0, len(at), step):
        if first:
            give_back(values)
        rows[first : first + step] = array[at[first : first + step]]
    return torch.from_numpy(rows)


def _memory_of_a_row(values: Shaped[np.ndarray, "n ..."]) -> int:
    return values[:1].nbytes + _AROUND
