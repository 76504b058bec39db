"""The randomness of a sampler: the noise of sample i depends on its own key, never on other samples."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from jaxtyping import Int64
from torch import Tensor

from sfumato.errors import InputError
from sfumato.numerics import random
from sfumato.numerics.integers import whole

NoiseSource = Callable[[int, Tensor], Tensor]
"""``(draw, like) -> z``: draw number ``draw`` of standard normal noise, with the shape (B, *), type and device of
``like``. Draw 0 is the state that a sampler starts from; row r of a tableau takes draw r + 1."""


@dataclass(frozen=True)
class SeededNoise:
    """Noise as a pure function of (key of the sample, draw): the same in every batch, order and device.

    Arguments:
        keys: one key per sample (B,).
    """

    keys: Int64[Tensor, "b"]

    @classmethod
    def samples(cls, seed: SupportsIndex, count: SupportsIndex, first: SupportsIndex = 0) -> "SeededNoise":
        """The noise of samples ``first`` to ``first + count - 1`` under ``seed``."""
        start, end = whole("first", first), whole("first", first) + whole("count", count, 0)
        return cls(random.keys(random.derive(whole("seed", seed), "samples"), torch.arange(start, end)))

    def rows(self, index: slice) -> "SeededNoise":
        """The noise of the samples that ``index`` selects."""
        return SeededNoise(self.keys[index])

    def __call__(self, draw: int, like: Tensor) -> Tensor:
        if len(like) != len(self.keys):
            raise InputError(f"noise: has {len(self.keys)} keys for {len(like)} samples; give one key per sample")
        keys = self.keys.to(like.device)
        return random.normal(keys, draw, math.prod(like.shape[1:]), like.dtype).reshape(like.shape)


@dataclass(frozen=True, eq=False)
class PairedNoise:
    """Noise of samples that are paired with their noise.

    Arguments:
        z: draw 1 (B, *).
        source: the source of all other draws.
    """

    z: Tensor
    source: SeededNoise

    @property
    def keys(self) -> Int64[Tensor, "b"]:
        """The keys of the samples."""
        return self.source.keys

    def rows(self, index: slice) -> "PairedNoise":
        """The noise of the samples that ``index`` selects."""
        return PairedNoise(self.z[index], self.source.rows(index))

    def __call__(self, draw: int, like: Tensor) -> Tensor:
        return self.z.to(like) if draw == 1 else self.source(draw, like)
