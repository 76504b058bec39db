"""The held-out loss: one fixed set of levels, samples and noises, so that the curve moves only when the model does."""

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
PLACES = 64  # where the relative_weight is recorded
FIRST = 2_000  # images; each further measurement comes after a quarter more images
GROWTH = 1.25


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Measures the loss on ``held_out`` and, in the same way, on as many ``training`` samples (over-fitting shows)."""

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
        """A fixed random choice of samples from each of two sources."""
        count = min(SAMPLES, len(held_out), len(training))
        chosen = [p.take(permutation(len(p), seed, "measured")[:count]) for p in (held_out, training)]
        return cls(loss, chosen[0], chosen[1], seed, world, conditioning)

    @torch.no_grad()
    def measure(self, module: nn.Module) -> dict[str, Any]:
        """Mean losses, and by eighths of the times with standard errors over samples: a row of the record.

        The samples of an eighth divide its times evenly among them, so that a chain's first level, where a bound has
        its decoder, is not passed over; ``t`` and ``logsnr`` are those of its middle. A loss without levels is
        measured as often, with other noise each time, and has one row. ``relative_weight`` are pairs (log-SNR, weight
        relative to the ELBO) over the levels.
        """
        held_out = torch.stack([self._losses(module, self.held_out, i, "held-out") for i in range(LEVELS)])
        training = torch.stack([self._losses(module, self.training, i, "training") for i in range(LEVELS)])
        middles = (torch.arange(LEVELS, dtype=torch.float64) + 0.5) / LEVELS
        places = self.loss.noise_levels(module, middles, even=True)
        if places is None:
            rows = [_row(held_out.mean(0), training.mean(0))]
        else:
            rows = [
                {"t": float(t), "logsnr": float(logsnr), **_row(ours, twins)}
                for t, logsnr, ours, twins in zip(*places, held_out, training, strict=True)
            ]
        return {
            "loss": sum(row["loss"] for row in rows) / len(rows),
            "train_loss": sum(row["train_loss"] for row in rows) / len(rows),
            "levels": rows,
            **self._emphasis(module),
        }

    @torch.no_grad()
    def value(self, module: nn.Module) -> float:
        """The held-out loss alone."""
        return float(torch.stack([self._losses(module, self.held_out, i, "held-out") for i in range(LEVELS)]).mean())

    def _emphasis(self, module: nn.Module) -> dict[str, Any]:
        places = (torch.arange(PLACES, dtype=torch.float64) + 0.5) / PLACES
        levels, weights = self.loss.noise_levels(module, places, even=True), self.loss.relative_weight(module, places)
        if levels is None or weights is None:
            return {}
        return {"relative_weight": list(zip(levels[1].tolist(), weights.tolist(), strict=True))}

    def _losses(self, module: nn.Module, part: Samples, draw: int, name: str) -> Tensor:
        count = len(part.values)
        keys = random.keys(random.derive(self.seed, name, draw), torch.arange(count))
        first, last = self.world.rows(count)
        place = (torch.arange(count, dtype=torch.float64, device=part.device) + 0.5) / count
        noise = noise_of(part.values, keys, part.noise, self.loss.pairing)
        cond = self.conditioning(part)
        batch = Batch(part.values, (draw + place) / LEVELS, noise, cond).rows(first, last)
        losses: Tensor = self.loss.evaluate(module, batch)
        return self.world.gather(losses, count)


def _row(held_out: Tensor, training: Tensor) -> dict[str, Any]:
    return {
        "loss": float(held_out.mean()),
        "error": float(held_out.std() / len(held_out) ** 0.5) if len(held_out) > 1 else None,
        "train_loss": float(training.mean()),
    }


def measure_due(before: int, after: int) -> bool:
    """Whether one of the marks ``FIRST * GROWTH^k`` images was passed: the same marks in every run."""

    def passed(images: int) -> int:
        return -1 if images < FIRST else int(math.log(images / FIRST, GROWTH))

    return passed(after) > passed(before)
