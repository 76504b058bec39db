"""Denoisers around denoisers."""

from typing import Any

import torch
from torch import Tensor

from sfumato.core import Prediction, Process
from sfumato.core.levels import expand
from sfumato.errors import InputError

from .base import Denoiser

SLACK = 1e-6  # in log-SNR: an end that was computed, not copied


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


class Reprocessed(Denoiser):
    """The same beliefs under another ``process``: x / alpha at a log-SNR means the same in every one.

    ``x_t`` is brought to the units and the time that ``denoiser`` has for its log-SNR; x_0-hat and eps-hat stand as
    they are. Raises InputError where the process has noise levels that the denoiser's has not (``Cut`` leaves them
    out).
    """

    def __init__(self, denoiser: Denoiser, process: Process) -> None:
        super().__init__()
        known = denoiser.process.level(torch.tensor([1.0, 0.0])).logsnr.tolist()
        wanted = process.level(torch.tensor([1.0, 0.0])).logsnr.tolist()
        if wanted[0] < known[0] - SLACK or wanted[1] > known[1] + SLACK:
            raise InputError(
                f"process: its log-SNRs, {wanted[0]:.4g} to {wanted[1]:.4g}, leave those of the model, "
                f"{known[0]:.4g} to {known[1]:.4g}; cut the schedule to them"
            )
        self.denoiser = denoiser
        self.process = process

    def forward(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        level, own = self.process.level(t), self.denoiser.process
        s = own.schedule.time(level.logsnr).clamp(0, 1)
        there = own.scaling.at(level.logsnr)
        unit = torch.hypot(there.alpha, there.sigma) / torch.hypot(level.alpha, level.sigma)
        prediction: Prediction = self.denoiser(expand(unit, x_t) * x_t, s, cond)
        return prediction
