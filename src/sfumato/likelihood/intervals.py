"""The intervals of log-SNR that the steps of a bound cover."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core import Level, Process
from sfumato.errors import InputError

SPAN_INTERVALS = 1024  # of a span, equal in log-SNR: the density of visits is constant on each
NOISIEST = -30.0  # the log-SNR that stands for pure noise where a number is needed


@dataclass(frozen=True)
class Span:
    """The walk with infinitely many levels between two times: VDM's continuous-time bound.

    ``integral of |eps - eps-hat|^2 / 2 d logsnr`` depends on the clock only through its ends.

    Arguments:
        first: time of the finest level.
        last: time of the noisiest level.

    References:
        Kingma et al. 2021, eq. 18.
    """

    first: float
    last: float = 1.0


@dataclass(frozen=True, eq=False)
class Intervals:
    """The steps of a walk from data on: step n goes from log-SNR ``upper[n]`` down to ``lower[n]``.

    Arguments:
        process: the process of the levels.
        upper: log-SNRs (N,) at the finer ends.
        lower: log-SNRs (N,) at the noisier ends.
        times: times (N,) of the noisier ends; None where every log-SNR is a level.
        finest: times of the levels that the decoder needs.
    """

    process: Process
    upper: Tensor
    lower: Tensor
    times: Tensor | None
    finest: Tensor

    @classmethod
    def of(cls, process: Process, times: Tensor | Span) -> "Intervals":
        """The intervals between ``times``, or those that a span is cut into.

        Raises:
            InputError: times that do not rise in [0, 1], or that begin at data itself.
        """
        ends = torch.tensor([times.first, times.last], dtype=torch.float64) if isinstance(times, Span) else times
        if len(ends) < 2 or not bool((ends.diff() > 0).all()) or ends[0] < 0 or ends[-1] > 1:
            raise InputError("times: give two or more in rising order, in [0, 1]")
        logsnr = process.level(ends).logsnr
        if not bool(logsnr[0].isfinite()):
            raise InputError(f"times: t = {float(ends[0]):g} is data itself; begin where there is some noise")
        if not isinstance(times, Span):
            return cls(process, logsnr[:-1], logsnr[1:], times[1:], times[:2])
        top, bottom = float(logsnr[0]), max(float(logsnr[1]), NOISIEST)
        edges = torch.linspace(top, bottom, SPAN_INTERVALS + 1, dtype=torch.float64)
        return cls(process, edges[:-1], edges[1:], None, ends[:1])

    @property
    def logsnr(self) -> Tensor:
        """The log-SNR (N,) where each step is denoised: its noisier end, or the middle of an interval of a span."""
        return (self.lower if self.times is not None else (self.lower + self.upper) / 2).clamp(min=NOISIEST)

    @property
    def level(self) -> Level:
        """The levels at ``logsnr``."""
        return self.process.scaling.at(self.logsnr)

    @property
    def weights(self) -> Tensor:
        """The nats (N,) per unit of squared error of eps."""
        if self.times is None:
            return 0.5 * (self.upper - self.lower)
        return 0.5 * torch.expm1(self.upper - self.lower.clamp(min=NOISIEST))
