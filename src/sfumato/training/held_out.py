"""The held-out loss: one fixed set of levels, samples and noises, so that the curve moves only when the model does."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.core import SeededNoise
from sfumato.data.order import permutation
from sfumato.denoisers import NetworkDenoiser
from sfumato.numerics import random
from sfumato.objectives import Objective

LEVELS = 8
SAMPLES = 128


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Measures the loss on ``held_out`` and, in the same way, on as many ``training`` samples (over-fitting shows)."""

    loss: Objective
    held_out: Tensor
    training: Tensor
    seed: int

    @classmethod
    def of(cls, loss: Objective, held_out: Tensor, training: Tensor, seed: int) -> "HeldOut":
        """With a fixed random choice from each part."""
        count = min(SAMPLES, len(held_out), len(training))
        chosen = [permutation(len(part), seed, "measured")[:count].to(part.device) for part in (held_out, training)]
        return cls(loss, held_out[chosen[0]], training[chosen[1]], seed)

    @torch.no_grad()
    def measure(self, denoiser: NetworkDenoiser) -> dict[str, Any]:
        """Mean losses over the levels, and by level with standard errors over samples: a row of the record."""
        rows: list[dict[str, Any]] = []
        for i in range(LEVELS):
            t = self.loss.times.even(torch.tensor([(i + 0.5) / LEVELS], dtype=torch.float64))
            held_out = self._losses(denoiser, self.held_out, t, i, "held-out")
            training = self._losses(denoiser, self.training, t, i, "training")
            rows.append(
                {
                    "t": float(t),
                    "logsnr": float(denoiser.process.level(t).logsnr),
                    "loss": float(held_out.mean()),
                    "error": float(held_out.std() / len(held_out) ** 0.5) if len(held_out) > 1 else None,
                    "train_loss": float(training.mean()),
                }
            )
        return {
            "loss": sum(row["loss"] for row in rows) / LEVELS,
            "train_loss": sum(row["train_loss"] for row in rows) / LEVELS,
            "levels": rows,
        }

    def _losses(self, denoiser: NetworkDenoiser, x_0: Tensor, t: Tensor, draw: int, name: str) -> Tensor:
        noise = SeededNoise(random.keys(random.derive(self.seed, name, draw), torch.arange(len(x_0))))
        return self.loss.at(denoiser, x_0, t.to(x_0.device).expand(len(x_0)), noise)
