"""The samples that training and measuring ask for, by index: in memory here, mapped or streamed elsewhere."""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples in memory: ``values`` (N, *) in model units, and the ``noise`` (N, *) that each is paired with, or None."""

    values: Tensor
    noise: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values.device

    def take(self, index: Int64[Tensor, "n"]) -> "Samples":
        """The samples of these indices, in their order."""
        index = index.to(self.values.device, non_blocking=True)
        return Samples(self.values[index], None if self.noise is None else self.noise[index])

    def rows(self, first: int, last: int) -> "Samples":
        """Samples ``first`` to before ``last``."""
        return Samples(self.values[first:last], None if self.noise is None else self.noise[first:last])


class SampleSource(Protocol):
    """A set of samples that is asked for rows; ``Samples`` is the one in memory."""

    def __len__(self) -> int:
        """The number of samples."""

    @property
    def device(self) -> torch.device:
        """Where ``take`` puts its samples."""

    def take(self, index: Int64[Tensor, "n"]) -> Samples:
        """The samples of these indices, in their order."""
