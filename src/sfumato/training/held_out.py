"""The held-out loss: levels, samples and noises are fixed, so that the curve moves only when the model does.

Measuring takes a small part of the time: the number of samples is a function of the images seen, so that it is the same
in every run, and grows with them. A measurement of N samples passes ``2 LEVELS N`` samples forward, and a step passes a
sample forward and back, which takes three times as long. Measured at the marks ``FIRST GROWTH^k``, the last one and the
choice among ``ema.CANDIDATES`` included, N = images / ``IMAGES_PER_SAMPLE`` takes 0.045 of the time of all steps.
"""

import math
from dataclasses import dataclass, replace
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
FEWEST, MOST = 4, 256  # samples of a measurement
IMAGES_PER_SAMPLE = 1_000
AT_ONCE = 128  # samples per forward pass
WEIGHTS = 64  # levels at which the relative weight is recorded
FIRST = 2_000  # images at the first measurement
GOLDEN = (math.sqrt(5) - 1) / 2  # the first n multiples, modulo 1, divide [0, 1] evenly for every n
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
        """Measures on a fixed random choice of the samples of two sources, in an order of its own."""
        count = min(MOST, len(held_out), len(training))
        taken = [p.take(permutation(len(p), seed, "measured")[:count]) for p in (held_out, training)]
        keys = random.keys(random.derive(seed, "measured view"), torch.arange(count, device=taken[0].device))
        chosen = [replace(samples, keys=keys) for samples in taken]
        return cls(loss, chosen[0], chosen[1], seed, world, conditioning)

    def samples_after(self, images: int) -> int:
        """How many samples to measure after so many images of training."""
        return min(max(images // IMAGES_PER_SAMPLE, FEWEST), len(self.held_out))

    @torch.no_grad()
    def measure(self, module: nn.Module, count: int | None = None) -> dict[str, Any]:
        """Measure a row of the record.

        The samples divide the times of each eighth evenly among them, so that the first level of a chain, where a bound
        has its decoder, is not passed over. A sample has the same times and noises however many are measured, so that
        two measurements can be compared sample by sample. A loss without levels is measured as often, with other noise
        each time.

        Arguments:
            module: the model's.
            count: held-out samples, and as many training samples, at most all; None for all.

        Returns:
            "loss" and "train_loss", means over all times, with the standard "error" of the first over the "samples",
            how many they are, and the mean of each in "sample_losses"; "levels", for each eighth of the times its
            middle ("t", "logsnr"), its mean losses and their standard error over samples, in one row for a loss
            without levels; and "relative_weight", pairs (log-SNR, weight relative to the ELBO), for a loss with levels.
        """
        held_out = self._losses(module, self.held_out, "held-out", count)
        training = self._losses(module, self.training, "training", count)
        middles = (torch.arange(LEVELS, dtype=torch.float64) + 0.5) / LEVELS
        levels = self.loss.noise_levels(module, middles, even=True)
        means = _row(held_out.mean(0), training.mean(0))
        if levels is None:
            rows = [means]
        else:
            rows = [
                {"t": float(t), "logsnr": float(logsnr), **_row(ours, twins)}
                for t, logsnr, ours, twins in zip(*levels, held_out, training, strict=True)
            ]
        own = {"samples": held_out.shape[1], "sample_losses": [float(f"{x:.6g}") for x in held_out.mean(0).tolist()]}
        return {**means, **own, "levels": rows, **self._relative_weight(module)}

    @torch.no_grad()
    def value(self, module: nn.Module, count: int | None = None) -> float:
        """The held-out loss alone."""
        return float(self._losses(module, self.held_out, "held-out", count).mean())

    def _relative_weight(self, module: nn.Module) -> dict[str, Any]:
        uniform = (torch.arange(WEIGHTS, dtype=torch.float64) + 0.5) / WEIGHTS
        levels, weights = self.loss.noise_levels(module, uniform, even=True), self.loss.relative_weight(module, uniform)
        if levels is None or weights is None:
            return {}
        return {"relative_weight": list(zip(levels[1].tolist(), weights.tolist(), strict=True))}

    def _losses(self, module: nn.Module, samples: Samples, name: str, count: int | None) -> Tensor:
        """The losses (LEVELS, n) of the first ``count`` samples."""
        n = len(samples) if count is None else min(count, len(samples))
        together = max(AT_ONCE // n, 1) if self.loss.pairing is None else 1  # noise is paired within a level
        parts = [range(first, min(first + together, LEVELS)) for first in range(0, LEVELS, together)]
        chosen = samples.rows(0, n)
        return torch.cat([self._losses_at(module, chosen, name, part) for part in parts]).view(LEVELS, n)

    def _losses_at(self, module: nn.Module, samples: Samples, name: str, eighths: range) -> Tensor:
        """The losses of samples at several eighths of the times, one after another."""
        n = len(samples)
        count = n * len(eighths)
        repeated = samples.take(torch.arange(n).repeat(len(eighths)))
        keys = torch.cat([random.keys(random.derive(self.seed, name, i), torch.arange(n)) for i in eighths])
        position = (0.5 + GOLDEN * torch.arange(n, dtype=torch.float64, device=samples.device)) % 1
        uniform = torch.cat([(i + position) / LEVELS for i in eighths])
        cond = self.conditioning(repeated)
        noise = noise_of(repeated.values, keys, repeated.noise, self.loss.pairing, cond)
        batch = Batch(repeated.values, uniform, noise, cond)
        return self.world.shared(count, lambda first, last: self.loss.evaluate(module, batch.rows(first, last)))


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
