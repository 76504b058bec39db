"""The held-out loss: levels, samples and noises are fixed, so that the curve moves only when the model does."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.data import Samples, SampleSource
from sfumato.data.order import permutation
from sfumato.numerics import random
from sfumato.objectives import Batch, Loss, noise_of
from sfumato.world import ALONE, World

from .draws import Conditioning, unconditional

LEVELS = 8
SAMPLES = 128
WEIGHTS = 64  # levels at which the relative weight is recorded
FIRST = 2_000  # images at the first measurement
GROWTH = 1.25  # of the images between one measurement and the next


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Measures the loss on held-out samples and, in the same way, on as many training samples: over-fitting shows.

    Arguments:
        loss: the loss.
        held_out: held-out samples.
        training: training samples, equally many.
        seed: of the noise.
        world: the processes that share the work.
        conditioning: makes the condition of samples.
    """

    loss: Loss[Any]
    held_out: Samples
    training: Samples
    seed: int
    world: World = ALONE
    conditioning: Conditioning = unconditional

    @classmethod
    def of(
        cls,
        loss: Loss[Any],
        held_out: SampleSource,
        training: SampleSource,
        seed: int,
        world: World = ALONE,
        conditioning: Conditioning = unconditional,
    ) -> "HeldOut":
        """Measures on a fixed random choice of the samples of two sources."""
        count = min(SAMPLES, len(held_out), len(training))
        chosen = [p.take(permutation(len(p), seed, "measured")[:count]) for p in (held_out, training)]
        return cls(loss, chosen[0], chosen[1], seed, world, conditioning)

    @torch.no_grad()
    def measure(self, module: nn.Module) -> dict[str, Any]:
        """Measure a row of the record.

        The samples divide the times of each eighth evenly among them, so that the first level of a chain, where a bound
        has its decoder, is not passed over. A loss without levels is measured as often, with other noise each time.

        Returns:
            "loss" and "train_loss", means over all times; "levels", for each eighth of the times its middle ("t",
            "logsnr"), its mean losses and their standard error over samples, in one row for a loss without levels; and
            "relative_weight", pairs (log-SNR, weight relative to the ELBO), for a loss with levels.
        """
        held_out = torch.stack([self._losses(module, self.held_out, i, "held-out") for i in range(LEVELS)])
        training = torch.stack([self._losses(module, self.training, i, "training") for i in range(LEVELS)])
        middles = (torch.arange(LEVELS, dtype=torch.float64) + 0.5) / LEVELS
        levels = self.loss.noise_levels(module, middles, even=True)
        if levels is None:
            rows = [_row(held_out.mean(0), training.mean(0))]
        else:
            rows = [
                {"t": float(t), "logsnr": float(logsnr), **_row(ours, twins)}
                for t, logsnr, ours, twins in zip(*levels, held_out, training, strict=True)
            ]
        return {
            "loss": sum(row["loss"] for row in rows) / len(rows),
            "train_loss": sum(row["train_loss"] for row in rows) / len(rows),
            "levels": rows,
            **self._relative_weight(module),
        }

    @torch.no_grad()
    def value(self, module: nn.Module) -> float:
        """The held-out loss alone."""
        return float(torch.stack([self._losses(module, self.held_out, i, "held-out") for i in range(LEVELS)]).mean())

    def _relative_weight(self, module: nn.Module) -> dict[str, Any]:
        uniform = (torch.arange(WEIGHTS, dtype=torch.float64) + 0.5) / WEIGHTS
        levels, weights = self.loss.noise_levels(module, uniform, even=True), self.loss.relative_weight(module, uniform)
        if levels is None or weights is None:
            return {}
        return {"relative_weight": list(zip(levels[1].tolist(), weights.tolist(), strict=True))}

    def _losses(self, module: nn.Module, samples: Samples, draw: int, name: str) -> Tensor:
        count = len(samples)
        keys = random.keys(random.derive(self.seed, name, draw), torch.arange(count))
        first, last = self.world.rows(count)
        position = (torch.arange(count, dtype=torch.float64, device=samples.device) + 0.5) / count
        noise = noise_of(samples.values, keys, samples.noise, self.loss.pairing)
        cond = self.conditioning(samples)
        batch = Batch(samples.values, (draw + position) / LEVELS, noise, cond).rows(first, last)
        losses: Tensor = self.loss.evaluate(module, batch)
        return self.world.gather(losses, count)


def _row(held_out: Tensor, training: Tensor) -> dict[str, Any]:
    return {
        "loss": float(held_out.mean()),
        "error": float(held_out.std() / len(held_out) ** 0.5) if len(held_out) > 1 else None,
        "train_loss": float(training.mean()),
    }


def measure_due(before: int, after: int) -> bool:
    """Whether images ``before`` to ``after`` pass a mark ``FIRST * GROWTH^k``; the marks are the same in every run."""

    def passed(images: int) -> int:
        return -1 if images < FIRST else int(math.log(images / FIRST, GROWTH))

    return passed(after) > passed(before)
