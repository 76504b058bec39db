"""Denoisers around denoisers."""

import torch
from torch import Tensor

from sfumato.core import Prediction, Process
from sfumato.core.levels import expand
from sfumato.errors import InputError

from .base import Denoiser
from .condition import Condition

SLACK = 1e-6  # in log-SNR: an end that was computed, not copied


class Clamped(Denoiser):
    """x_0 clamped to [low, high], and eps made to agree: ``eps = (x_t - alpha x_0) / sigma``.

    For data that is bounded, and only then. The bounds, numbers or tensors that broadcast against a sample, are in
    model units. Leaving eps as it was would move a sample by two beliefs at odds with each other. Raises InputError
    unless low < high.
    """

    def __init__(self, denoiser: Denoiser, low: float | Tensor = -1.0, high: float | Tensor = 1.0) -> None:
        super().__init__()
        if not bool((torch.as_tensor(low) < torch.as_tensor(high)).all()):
            raise InputError(f"low {low}, high {high}: need low < high to clamp x_0 between them")
        self.denoiser = denoiser
        self.process = denoiser.process
        # As plain numbers where possible: clamping to tensors is slower.
        self.low, self.high = (float(end) if torch.as_tensor(end).ndim == 0 else end for end in (low, high))

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        prediction: Prediction = self.denoiser(x_t, t, cond)
        x_0 = torch.clamp(prediction.x_0, self.low, self.high)  # type: ignore[arg-type]
        return prediction.with_x_0(x_0, self.process.level(t, like=x_t))


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

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        level, own = self.process.level(t), self.denoiser.process
        s = own.schedule.time(level.logsnr).clamp(0, 1)
        there = own.scaling.at(level.logsnr)
        unit = torch.hypot(there.alpha, there.sigma) / torch.hypot(level.alpha, level.sigma)
        prediction: Prediction = self.denoiser(expand(unit, x_t) * x_t, s, cond)
        return prediction


class NormBounded(Denoiser):
    """x_0 no farther than ``radius`` from the origin, and eps made to agree: for data that is not bounded.

    A posterior mean lies in the convex hull of the data. Where little signal is left, x_0 read off a predicted noise
    is that prediction's error, magnified by sigma / alpha; a single start in the tails then leads a solver without
    noise far away. With a radius beyond all of the data, in model units, no belief is touched that could be right.
    Raises InputError for a radius that is not positive.
    """

    def __init__(self, denoiser: Denoiser, radius: float) -> None:
        super().__init__()
        if not radius > 0:
            raise InputError(f"radius: {radius} leaves nothing to believe; give more than 0")
        self.denoiser = denoiser
        self.process = denoiser.process
        self.radius = radius

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        prediction: Prediction = self.denoiser(x_t, t, cond)
        norm = prediction.x_0.flatten(1).norm(dim=1)
        share = expand(torch.clamp(self.radius / norm.clamp(min=1e-30), max=1.0), x_t)
        x_0 = torch.where(share < 1, share * prediction.x_0, prediction.x_0)
        return prediction.with_x_0(x_0, self.process.level(t, like=x_t))
