"""What a step computes: the samples of a batch with all that is drawn for them, and their losses."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from sfumato.core import PairedNoise, SeededNoise
from sfumato.data import AUGMENTATION_NUMBERS, Order, SampleSource, augment
from sfumato.denoisers import Condition
from sfumato.networks import Dropout
from sfumato.numerics import random
from sfumato.objectives import Batch, Loss, noise_of
from sfumato.objectives.times import stratify


@dataclass(frozen=True, eq=False)
class Draws:
    """Everything random of a run, as a function of (seed, number of the image): no generator, no state."""

    data: SampleSource
    order: Order
    loss: Loss[Any]
    seed: int
    share: float  # of the images that an augmentation falls on

    def batch(self, seen: int, size: int, rows: tuple[int, int]) -> Batch:
        """Rows ``rows`` of the batch of ``size`` images after the first ``seen``.

        Where a loss pairs noise with data, it does so over the whole batch, whoever has which rows.
        """
        index = torch.arange(size, device=self.data.device)
        keys = random.keys(random.derive(self.seed, "training"), seen + index)
        kept = slice(*rows)
        order = self.order.indices(seen, size)
        if self.loss.pairing is None:
            own = self.data.take(order[kept])
            noise = noise_of(own.values, keys[kept], own.noise)
        else:
            whole = self.data.take(order)
            noise = noise_of(whole.values, keys, whole.noise, self.loss.pairing).rows(kept)
            own = whole.rows(*rows)
        x_0, cond = self._augmented(own.values, seen + index[kept])
        uniform = stratify(random.uniform(keys[kept], 0, 1)[:, 0], index[kept], size)
        return Batch(x_0, uniform, noise, cond)

    def samples(self, seen: int, size: int, rows: tuple[int, int]) -> Int64[Tensor, "b"]:
        """The indices of the samples of ``batch``, in the training part."""
        return self.order.indices(seen, size)[slice(*rows)]

    def _augmented(self, x_0: Tensor, numbers: Tensor) -> tuple[Tensor, Condition | None]:
        """The samples moved at random, and what tells the network how; as they are where none are to be."""
        if not self.share:
            return x_0, None
        keys = random.keys(random.derive(self.seed, "augmentation"), numbers)
        moved, numbers_of = augment(x_0, random.uniform(keys, 0, AUGMENTATION_NUMBERS), self.share)
        return moved, Condition(augmentation=numbers_of)


class Losses(nn.Module):
    """``losses (b,) = loss(module, batch)``: one module with all that learns, for what wraps modules.

    ``precision`` is the type that the network's products are computed in; its weights, and all else, stay as they are.
    """

    def __init__(self, module: nn.Module, loss: Loss[Any], precision: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self.loss = loss
        self.precision = precision
        self._dropouts = [part for part in module.modules() if isinstance(part, Dropout)]

    def forward(self, batch: Batch) -> Tensor:
        assert isinstance(batch.noise, (SeededNoise, PairedNoise))  # as Draws makes it
        for number, dropout in enumerate(self._dropouts):
            dropout.keys = random.keys(random.derive("dropout", number), batch.noise.keys)
        device = batch.x_0.device.type
        with torch.autocast(device, self.precision, enabled=self.precision != torch.float32):
            losses: Tensor = self.loss(self.module, batch)
        return losses.float()
