"""The order in which training sees samples: pure functions of a seed, so that training can resume anywhere."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import InputError
from ..numerics.random import derive


def generator(*parts: int | str) -> torch.Generator:
    """Return a generator on the CPU whose state is a function of ``parts`` only."""
    seed = derive(*parts)
    # The Mersenne Twister behind it reads only the low 32 bits: fold the others in.
    return torch.Generator().manual_seed((seed ^ (seed >> 32)) & 0xFFFFFFFF)


def permutation(count: int, *parts: int | str) -> Int64[Tensor, "count"]:
    """Return a random order of 0 .. count - 1 that is a function of ``count`` and ``parts`` only."""
    return torch.randperm(count, generator=generator(*parts))


def split(count: int, fraction: float, seed: int) -> tuple[Int64[Tensor, "train"], Int64[Tensor, "held_out"]]:
    """Split 0 .. count - 1 into training and held-out samples.

    A larger fraction holds out the same samples and more.

    Arguments:
        count: number of samples, at least 2.
        fraction: of the samples to hold out, in (0, 1); at least one sample is held out, and at least one is not.
        seed: of the shuffle that decides.

    Returns:
        The indices to train on and the held-out indices, each ascending.

    Raises:
        InputError: fewer than 2 samples, or a fraction outside (0, 1).
    """
    if count < 2:
        raise InputError(f"split: {count} samples cannot be split in two; give at least 2")
    if not 0 < fraction < 1:
        raise InputError(f"split: fraction {fraction} is not allowed; give a number between 0 and 1, such as 0.1")
    held_out = min(max(round(fraction * count), 1), count - 1)
    order = permutation(count, seed, "split")
    return order[held_out:].sort().values, order[:held_out].sort().values


@dataclass(frozen=True)
class Order:
    """An endless sequence of epochs, each a new random order of all samples.

    Epoch e is a function of (seed, e) only. There is no state: any section of the sequence can be requested.

    Arguments:
        count: number of samples, at least 1.
        seed: of the orders.

    Raises:
        InputError: no samples.
    """

    count: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"order: {self.count} samples; give at least 1")

    def indices(self, first: int, n: int) -> Int64[Tensor, "n"]:
        """The samples at positions first .. first + n - 1 of the sequence.

        Raises:
            InputError: a negative position or number.
        """
        if first < 0 or n < 0:
            raise InputError(f"order: position {first} and number {n} must not be negative")
        last = first + n
        # The empty piece covers n = 0, and makes cat copy: a view would let callers write into the cached epoch.
        pieces = [torch.empty(0, dtype=torch.int64)]
        for epoch in range(first // self.count, -(-last // self.count)):
            start = epoch * self.count
            pieces.append(_epoch(self.count, self.seed, epoch)[max(first - start, 0) : last - start])
        return torch.cat(pieces)


@lru_cache(maxsize=2)
def _epoch(count: int, seed: int, epoch: int) -> Tensor:
    # Cached because every batch of an epoch needs the same one; two of them because a batch may cross an epoch's end.
    return permutation(count, seed, "order", epoch)
