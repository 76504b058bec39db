"""The samples that training and measurements ask for by index: in memory here, mapped or streamed elsewhere."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float32, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples in memory.

    Arguments:
        values: (N, *) in model units.
        noise: (N, *) that each sample is paired with, or None.
        labels: (N,) class indices, or None.
        conditions: (N, k) numbers that samples are given with, standardised, NaN where one is not given; or None.
        keys: (N,) keys of what is random in their condition, or None.
    """

    values: Tensor
    noise: Tensor | None = None
    labels: Int64[Tensor, "n"] | None = None
    conditions: Float32[Tensor, "n k"] | None = None
    keys: Int64[Tensor, "n"] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def device(self) -> torch.device:
        """The device that the values are on."""
        return self.values.device

    def take(self, index: Int64[Tensor, "n"]) -> "Samples":
        """The samples with these indices, in this order."""
        index = index.to(self.values.device, non_blocking=True)
        return Samples(self.values[index], *(None if each is None else each[index] for each in self._beside))

    def rows(self, first: int, last: int) -> "Samples":
        """Samples ``first`` to before ``last``."""
        beside = (None if each is None else each[first:last] for each in self._beside)
        return Samples(self.values[first:last], *beside)

    @property
    def _beside(self) -> tuple[Tensor | None, ...]:
        return self.noise, self.labels, self.conditions, self.keys


@runtime_checkable  # so that the test run can check annotations
class SampleSource(Protocol):
    """A set of samples that returns rows on request. ``Samples`` is the one in memory."""

    def __len__(self) -> int:
        """Number of samples."""

    @property
    def device(self) -> torch.device:
        """The device on which ``take`` returns samples."""

    def take(self, index: Int64[Tensor, "n"]) -> Samples:
        """The samples with these indices, in this order."""


@dataclass(frozen=True, eq=False)
class Subset:
    """The samples of ``source`` with the indices ``index`` (N,), taken from it on request."""

    source: SampleSource
    index: Int64[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def device(self) -> torch.device:
        """Where ``take`` puts its samples."""
        return self.source.device

    def take(self, index: Int64[Tensor, "n"]) -> Samples:
        """The samples with these indices into the subset, in this order."""
        return self.source.take(self.index[index])
