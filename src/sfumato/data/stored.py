"""Values that stay in files, and the samples that training takes from them."""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from .samples import Samples
from .spec import DataSpec

_WIDER = {"bool": np.uint8, "uint16": np.int32, "uint32": np.int64, "uint64": np.int64}


@runtime_checkable  # so that the test run can check annotations
class Stored(Protocol):
    """The values of a data set, in a file or in many."""

    def __len__(self) -> int:
        """Number of samples."""

    @property
    def note(self) -> str:
        """What stays where, as a sentence for the user."""

    def rows(self, index: Int64[Tensor, "k"]) -> Shaped[Tensor, "k ..."]:
        """A copy of the samples with these indices, in data units, in this order; a function of the indices alone."""


class StoredSamples:
    """The samples of a data set that is in files, a ``SampleSource``: ``take`` reads rows and encodes them.

    What it returns is a function of the indices alone, as for samples in memory, so the order of batches and a resumed
    run are the same.

    Arguments:
        stored: the values.
        spec: the contract.
        labels: (N,), or None.
        device: where samples are returned.
    """

    def __init__(
        self,
        stored: Stored,
        spec: DataSpec,
        labels: Int64[Tensor, "n"] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self._stored, self._spec, self._labels = stored, spec, labels

    def __len__(self) -> int:
        return len(self._stored)

    def take(self, index: Int64[Tensor, "n"]) -> Samples:
        """The samples with these indices, in this order."""
        index = index.cpu()
        values = self._stored.rows(index).reshape(-1, *self._spec.shape)
        labels = None if self._labels is None else self._labels[index].to(self.device)
        return Samples(self._spec.encode(values).to(self.device), None, labels)


def tensor_of(values: np.ndarray) -> Tensor:
    """The array as a tensor, in the next wider type where torch does not compute with its own."""
    wider = _WIDER.get(values.dtype.name)
    return torch.from_numpy(np.ascontiguousarray(values if wider is None else values.astype(wider)))
