"""Denoisers around denoisers."""

from typing import Any

from torch import Tensor

from sfumato.core import Prediction
from sfumato.errors import InputError

from .base import Denoiser


class Clamped(Denoiser):
    """x_0 clamped to [low, high], and eps made to agree: ``eps = (x_t - alpha x_0) / sigma``.

    For data that is bounded, and only then. The bounds are in model units. Leaving eps as it was would move a sample
    by two beliefs at odds with each other. Raises InputError unless low < high.
    """

    def __init__(self, denoiser: Denoiser, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        if not low < high:
            raise InputError(f"low {low}, high {high}: need low < high to clamp x_0 between them")
        self.denoiser = denoiser
        self.process = denoiser.process
        self.low, self.high = low, high

    def forward(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        prediction = self.denoiser(x_t, t, cond)
        level = self.process.level(t, like=x_t)
        x_0 = prediction.x_0.clamp(self.low, self.high)
        # Re-derived as a correction of the old eps, exact where nothing was clamped, however small sigma is.
        eps = prediction.eps + (prediction.x_0 - x_0) * (level.alpha / level.sigma)
        return Prediction(x_0, eps, prediction.variance)
