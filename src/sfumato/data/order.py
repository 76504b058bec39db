"""Which sample comes when: pure functions of a seed, so that training can be taken up anywhere."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import InputError
from ..numerics.random import derive


def generator(*parts: int | str) -> torch.Generator:
    """A generator on the CPU, in a state that is a function of ``parts`` alone."""
    seed = derive(*parts)
    # The Mersenne Twister behind it reads the low 32 bits only: fold the others in.
    return torch.Generator().manual_seed((seed ^ (seed >> 32)) & 0xFFFFFFFF)


def permutation(count: int, *parts: int | str) -> Int64[Tensor, "count"]:
    """A random order of 0 .. count - 1 that is a function of ``count`` and ``parts`` alone."""
    return torch.randperm(count, generator=generator(*parts))


def split(count: int, fraction: float, seed: int) -> tuple[Int64[Tensor, "train"], Int64[Tensor, "held_out"]]:
    """Indices to train on and indices held out, each ascending; together they are 0 .. count - 1.

    ``round(fraction * count)`` samples are held out, but at least one, and at least one is left. A larger fraction
    holds out the same samples and more.

    Raises:
        InputError: fewer than 2 samples, or a fraction outside (0, 1).
    """
    if count < 2:
        raise InputError(f"split: {count} samples cannot be parted in two; give at least 2")
    if not 0 < fraction < 1:
        raise InputError(f"split: fraction {fraction} is not allowed; give a number between 0 and 1, such as 0.1")
    held_out = min(max(round(fraction * count), 1), count - 1)
    order = permutation(count, seed, "split")
    return order[held_out:].sort().values, order[:held_out].sort().values


@dataclass(frozen=True)
class Order:
    """An endless sequence of epochs over ``count`` samples, each a fresh random order of all of them.

    Epoch e is a function of (seed, e) alone. There is no state: any stretch of the sequence can be asked for.

    Raises:
        InputError: no samples.
    """

    count: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"order: {self.count} samples; give at least 1")

    def indices(self, first: int, n: int) -> Int64[Tensor, "n"]:
        """The samples at places first .. first + n - 1 of the sequence.

        Raises:
            InputError: a negative place or number.
        """
        if first < 0 or n < 0:
            raise InputError(f"order: place {first} and number {n} must not be negative")
        last = first + n
        # The empty piece stands for n = 0, and makes cat copy: a view would hand out the remembered epoch to write on.
        pieces = [torch.empty(0, dtype=torch.int64)]
        for epoch in range(first // self.count, -(-last // self.count)):
            start = epoch * self.count
            pieces.append(_epoch(self.count, self.seed, epoch)[max(first - start, 0) : last - start])
        return torch.cat(pieces)


@lru_cache(maxsize=2)
def _epoch(count: int, seed: int, epoch: int) -> Tensor:
    # Remembered, as every batch of an epoch asks for the same one; two, as a batch may straddle the seam.
    return permutation(count, seed, "order", epoch)
