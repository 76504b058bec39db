"""The samples of a batch with everything that is drawn for them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from sfumato.data import AUGMENTATION_NUMBERS, Order, Samples, SampleSource, augment
from sfumato.denoisers import Condition, condition_rows
from sfumato.numerics import random
from sfumato.objectives import Batch, Loss, noise_of
from sfumato.objectives.times import stratify

Conditioning = Callable[[Samples], Condition | None]
"""The condition of samples, one row per sample; None for an unconditional model."""


def unconditional(samples: Samples) -> None:
    """The conditioning of an unconditional model."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Everything random of a run, as a function of (seed, number of the image): no generator, no state.

    Arguments:
        data: the training samples.
        order: the endless shuffled sequence of their indices.
        loss: decides how noise is paired with samples.
        seed: of the run.
        augmented: the fraction of images that each augmentation falls on.
        conditioning: makes the condition of samples.
        label_dropout: the share of samples whose condition is not given.
    """

    data: SampleSource
    order: Order
    loss: Loss[Any]
    seed: int
    augmented: float
    conditioning: Conditioning = unconditional
    label_dropout: float = 0.0

    def batch(self, seen: int, size: int, rows: tuple[int, int]) -> Batch:
        """Rows ``rows`` (first, last + 1) of the batch of ``size`` images after the first ``seen``.

        A loss that pairs noise with samples does so over the whole batch, whichever rows a process has.
        """
        index = torch.arange(size, device=self.data.device)
        keys = random.keys(random.derive(self.seed, "training"), seen + index)
        kept = slice(*rows)
        order = self.order.indices(seen, size)
        if self.loss.pairing is None:
            own = self.data.take(order[kept])
            cond = self._condition(own, seen + index[kept])
            noise = noise_of(own.values, keys[kept], own.noise)
        else:
            whole = self.data.take(order)
            cond = self._condition(whole, seen + index)
            noise = noise_of(whole.values, keys, whole.noise, self.loss.pairing, cond).rows(kept)
            own, cond = whole.rows(*rows), condition_rows(cond, kept)
        x_0, cond = self._augment(own.values, cond, seen + index[kept])
        uniform = stratify(random.uniform(keys[kept], 0, 1)[:, 0], index[kept], size)
        return Batch(x_0, uniform, noise, cond)

    def samples(self, seen: int, size: int, rows: tuple[int, int]) -> Int64[Tensor, "b"]:
        """The indices of the samples of ``batch``, among the training samples."""
        return self.order.indices(seen, size)[slice(*rows)]

    def _condition(self, samples: Samples, numbers: Tensor) -> Condition | None:
        """The condition of the samples, not given for some of the images ``numbers``."""
        keys = random.keys(random.derive(self.seed, "view"), numbers)
        cond = self.conditioning(replace(samples, keys=keys))
        if cond is None or not self.label_dropout:
            return cond
        keys = random.keys(random.derive(self.seed, "label dropout"), numbers)
        return cond.dropped(random.uniform(keys, 0, 1)[:, 0] <= self.label_dropout, self._some(cond, keys))

    def _some(self, cond: Condition, keys: Tensor) -> Tensor | None:
        """Which numbers of the vector are left out alone: half of them, of a share ``label_dropout`` of the samples."""
        if cond.vector is None or cond.vector.shape[1] < 2:
            return None
        uniform = random.uniform(keys, 1, 1 + cond.vector.shape[1])
        return (uniform[:, :1] <= self.label_dropout) & (uniform[:, 1:] <= 0.5)

    def _augment(self, x_0: Tensor, cond: Condition | None, numbers: Tensor) -> tuple[Tensor, Condition | None]:
        """Move the images ``numbers`` at random, and add to the condition how each was moved."""
        if not self.augmented:
            return x_0, cond
        keys = random.keys(random.derive(self.seed, "augmentation"), numbers)
        moved, how = augment(x_0, random.uniform(keys, 0, AUGMENTATION_NUMBERS), self.augmented)
        return moved, Condition(augmentation=how) if cond is None else replace(cond, augmentation=how)
