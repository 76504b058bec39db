"""Denoisers around denoisers."""

import torch
from torch import Tensor

from sfumato.core import Prediction, Process
from sfumato.core.levels import expand
from sfumato.errors import InputError

from .base import Denoiser
from .condition import Condition

SLACK = 1e-6  # of a log-SNR: an end that was computed can be off by rounding


class Clamped(Denoiser):
    """x_0 clamped to [low, high], with the eps that agrees: ``eps = (x_t - alpha x_0) / sigma``.

    Only for data that is bounded. With the old eps, x_0 and eps would contradict each other.

    Arguments:
        denoiser: the denoiser.
        low: the lower bounds in model units, a number or a tensor that broadcasts against a sample.
        high: the upper bounds.

    Raises:
        InputError: a lower bound that is not below the upper one.
    """

    def __init__(self, denoiser: Denoiser, low: float | Tensor = -1.0, high: float | Tensor = 1.0) -> None:
        super().__init__()
        ends = [torch.as_tensor(end, dtype=torch.float64) for end in (low, high)]
        if not bool((ends[0] < ends[1]).all()):
            raise InputError(f"low {low}, high {high}: need low < high to clamp x_0 between them")
        self.denoiser = denoiser
        self.process = denoiser.process
        # Two numbers stay numbers: clamping to tensors is slower.
        self.numbers = None if any(end.ndim for end in ends) else (float(ends[0]), float(ends[1]))
        device = next((p.device for p in denoiser.parameters()), None)
        for name, end in zip(("low", "high"), ends, strict=True):
            self.register_buffer(name, None if self.numbers else end.to(device), persistent=False)

    low: Tensor
    high: Tensor

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        prediction: Prediction = self.denoiser(x_t, t, cond)
        x_0 = prediction.x_0
        clamped = x_0.clamp(*self.numbers) if self.numbers else x_0.clamp(self.low.to(x_0), self.high.to(x_0))
        return prediction.with_x_0(clamped, self.process.level(t, like=x_t))


class Reprocessed(Denoiser):
    """A denoiser under another process: x / alpha at a log-SNR means the same in every process.

    ``x_t`` is converted to the units and the time that ``denoiser`` has for its log-SNR; x_0-hat and eps-hat do not
    change.

    Arguments:
        denoiser: the denoiser under its own process.
        process: the new process.

    Raises:
        InputError: the process has noise levels that the denoiser's does not have (``Cut`` removes them).
    """

    def __init__(self, denoiser: Denoiser, process: Process) -> None:
        super().__init__()
        known = denoiser.process.level(torch.tensor([1.0, 0.0])).logsnr.tolist()
        wanted = process.level(torch.tensor([1.0, 0.0])).logsnr.tolist()
        if wanted[0] < known[0] - SLACK or wanted[1] > known[1] + SLACK:
            raise InputError(
                f"process: its log-SNRs, {wanted[0]:.4g} to {wanted[1]:.4g}, exceed those of the model, "
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
    """x_0 kept within a radius of the origin, with the eps that agrees: for data that is not bounded.

    A posterior mean lies in the convex hull of the data. Where little signal is left, x_0 computed from a predicted
    noise magnifies the error of that prediction by sigma / alpha; a start in the tails then leads a deterministic
    solver far away. With a radius beyond all of the data, valid predictions are never changed.

    Arguments:
        denoiser: the denoiser.
        radius: the largest norm of x_0, in model units.

    Raises:
        InputError: a radius that is not positive.
    """

    def __init__(self, denoiser: Denoiser, radius: float) -> None:
        super().__init__()
        if not radius > 0:
            raise InputError(f"radius: {radius} excludes every x_0; give more than 0")
        self.denoiser = denoiser
        self.process = denoiser.process
        self.radius = radius

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        prediction: Prediction = self.denoiser(x_t, t, cond)
        norm = prediction.x_0.flatten(1).norm(dim=1)
        factor = expand(torch.clamp(self.radius / norm.clamp(min=1e-30), max=1.0), x_t)
        x_0 = torch.where(factor < 1, factor * prediction.x_0, prediction.x_0)
        return prediction.with_x_0(x_0, self.process.level(t, like=x_t))
