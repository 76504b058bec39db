"""What a step computes: the samples of a batch with all that is drawn for them, and their losses."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.core import NoiseSource
from sfumato.data import AUGMENTATION_NUMBERS, Order, augment
from sfumato.networks import Dropout
from sfumato.numerics import random
from sfumato.objectives import Loss
from sfumato.objectives.times import stratify

from .part import Part, source


@dataclass(frozen=True, eq=False)
class Batch:
    """Some images of a step: their places in the data, values, uniform numbers, keys, noise paired with them, cond."""

    samples: Tensor  # (b,) which of the training part
    x_0: Tensor
    uniform: Tensor
    keys: Tensor
    z: Tensor | None = None
    cond: Tensor | None = None

    @property
    def noise(self) -> NoiseSource:
        """The noise of each image."""
        return source(self.keys, self.z)

    def rows(self, first: int, last: int) -> "Batch":
        """Those from ``first`` to before ``last``."""
        kept = slice(first, last)
        return Batch(
            self.samples[kept],
            self.x_0[kept],
            self.uniform[kept],
            self.keys[kept],
            None if self.z is None else self.z[kept],
            None if self.cond is None else self.cond[kept],
        )


@dataclass(frozen=True, eq=False)
class Draws:
    """Everything random of a run, as a function of (seed, number of the image): no generator, no state."""

    data: Part
    order: Order
    loss: Loss[Any]
    seed: int
    share: float  # of the images that an augmentation falls on

    def batch(self, seen: int, size: int, rows: tuple[int, int]) -> Batch:
        """Rows ``rows`` of the batch of ``size`` images after the first ``seen``.

        Where a loss pairs noise with data, it does so over the whole batch, whoever has which rows.
        """
        device = self.data.values.device
        index = torch.arange(size, device=device)
        keys = random.keys(random.derive(self.seed, "training"), seen + index)
        kept = slice(*rows)
        places = self.order.indices(seen, size)
        if self.loss.pairing is None:
            own = self.data.pick(places[kept])
        else:
            own = self.data.pick(places).dealt(self.loss.pairing, keys).rows(*rows)
        x_0, cond = self._augmented(own.values, seen + index[kept])
        uniform = stratify(random.uniform(keys[kept], 0, 1)[:, 0], index[kept], size)
        return Batch(places[kept], x_0, uniform, keys[kept], own.noise, cond)

    def _augmented(self, x_0: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor | None]:
        """The samples moved at random, and what tells the network how; as they are where none are to be."""
        if not self.share:
            return x_0, None
        keys = random.keys(random.derive(self.seed, "augmentation"), numbers)
        return augment(x_0, random.uniform(keys, 0, AUGMENTATION_NUMBERS), self.share)


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
        for number, dropout in enumerate(self._dropouts):
            dropout.keys = random.keys(random.derive("dropout", number), batch.keys)
        device = batch.x_0.device.type
        with torch.autocast(device, self.precision, enabled=self.precision != torch.float32):
            losses: Tensor = self.loss(self.module, batch.x_0, batch.uniform, batch.noise, batch.cond)
        return losses.float()
