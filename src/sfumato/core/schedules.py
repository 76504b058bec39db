"""Schedules, the clocks of a process: a strictly decreasing log-SNR over t in [0, 1], with data at 0, and its inverse.

    LinearBeta       beta(t) linear in t                                   (score SDE's VP)
    SubVPBeta        the same alpha under sigma = 1 - alpha^2              (score SDE's sub-VP)
    Cosine           the angle atan(sigma / alpha) linear in t             (Nichol & Dhariwal 2021, continuous)
    LinearLogSNR     the log-SNR linear in t; `geometric` writes it in sigmas (VDM, NCSN)
    Logistic         sigma / (alpha + sigma) linear in t                   (flow matching)
    Cut              a section of any of them

The first is the clock of a rate beta(t): with ``decay = -log alpha-bar = integral of beta``, the log-SNR is
``-log(exp(decay) - 1)``. Discrete chains (``chains``) are clocks of a rate too.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.errors import InputError


class Schedule(ABC):
    """A strictly decreasing log-SNR over t in [0, 1], with its inverse; float64 in, float64 out."""

    @abstractmethod
    def logsnr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2) at times ``t`` in [0, 1], any shape; +inf at t = 0 where the clock starts at data."""

    @abstractmethod
    def time(self, logsnr: Tensor) -> Tensor:
        """The time at which the log-SNR has this value: the inverse of ``logsnr`` on its range."""

    @property
    @abstractmethod
    def remedy(self) -> str:
        """An imperative for a message: what to change when too much signal is left at t = 1."""


def logsnr_of_decay(decay: Tensor) -> Tensor:
    """The log-SNR in VP units at ``decay = -log alpha-bar``: ``-log(exp(decay) - 1)``."""
    # -log(expm1(decay)) without overflow where decay is large and without cancellation where it is small.
    return -decay - torch.log(-torch.expm1(-decay))


def decay_of_logsnr(logsnr: Tensor) -> Tensor:
    """The inverse of ``logsnr_of_decay``: ``log(1 + exp(-logsnr))``."""
    # softplus(-logsnr); torch's own softplus is linear above 20, which costs half of float64's digits.
    return -F.logsigmoid(logsnr)


@dataclass(frozen=True)
class LinearBeta(Schedule):
    """The continuous rate ``beta(t) = beta_min + t (beta_max - beta_min)`` (Song et al. 2021, appendix C).

    Arguments:
        beta_min: the rate at t = 0, above 0.
        beta_max: the rate at t = 1.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max < math.inf:
            raise InputError(f"beta_min {self.beta_min}, beta_max {self.beta_max}: need 0 < beta_min <= beta_max")

    def logsnr(self, t: Tensor) -> Tensor:
        return logsnr_of_decay(self.decay(t))

    def time(self, logsnr: Tensor) -> Tensor:
        return self.time_of(decay_of_logsnr(logsnr))

    def decay(self, t: Tensor) -> Tensor:
        """``-log alpha-bar``, the integral of the rate from data to t."""
        return t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))

    def time_of(self, decay: Tensor) -> Tensor:
        """The inverse of ``decay``."""
        # The root of the quadratic in the form that does not cancel when decay is small.
        root = torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * decay)
        return 2 * decay / (self.beta_min + root)

    @property
    def remedy(self) -> str:
        return "raise beta_max"


@dataclass(frozen=True)
class SubVPBeta(Schedule):
    """The clock of the sub-VP SDE: ``logsnr = log(alpha^2 / (1 - alpha^2)^2)``.

    Its alpha is that of a linear rate, its sigma 1 - alpha^2. The log-SNR is above the VP SDE's at the same t.

    Arguments:
        rate: the linear rate.

    References:
        Song et al. 2021, appendix C.
    """

    rate: LinearBeta = LinearBeta()

    def logsnr(self, t: Tensor) -> Tensor:
        decay = self.rate.decay(t)
        return 2 * logsnr_of_decay(decay) + decay

    def time(self, logsnr: Tensor) -> Tensor:
        return self.rate.time_of(2 * torch.asinh(0.5 * torch.exp(-0.5 * logsnr)))

    @property
    def remedy(self) -> str:
        return self.rate.remedy


@dataclass(frozen=True)
class Cosine(Schedule):
    """``logsnr = -2 log tan(angle)``, the angle linear in t (Nichol & Dhariwal 2021; Hoogeboom et al. 2023, eq. 2).

    The default ends are finite: at an angle of exactly pi/2 no signal is left and a noise target has no solution.

    Arguments:
        logsnr_min: the log-SNR at t = 1.
        logsnr_max: the log-SNR at t = 0.
    """

    logsnr_min: float = -15.0
    logsnr_max: float = 15.0

    def __post_init__(self) -> None:
        _check_ends(self.logsnr_min, self.logsnr_max)

    def logsnr(self, t: Tensor) -> Tensor:
        # The angle from data and the one from noise, each exact where it is small.
        angle = (1 - t) * _angle(self.logsnr_max) + t * _angle(self.logsnr_min)
        complement = (1 - t) * _angle(-self.logsnr_max) + t * _angle(-self.logsnr_min)
        return 2 * (torch.log(torch.sin(complement)) - torch.log(torch.sin(angle)))

    def time(self, logsnr: Tensor) -> Tensor:
        start, end = _angle(self.logsnr_max), _angle(self.logsnr_min)
        return (torch.atan(torch.exp(-0.5 * logsnr)) - start) / (end - start)

    @property
    def remedy(self) -> str:
        return "lower logsnr_min"


def _angle(logsnr: float) -> float:
    """atan(sigma / alpha) at a log-SNR; at its negative, the complement to pi/2."""
    return math.atan2(1.0, _exp(0.5 * logsnr))


@dataclass(frozen=True)
class LinearLogSNR(Schedule):
    """The log-SNR linear in t (Kingma et al. 2021, VDM's fixed schedule).

    Arguments:
        logsnr_min: the log-SNR at t = 1, finite.
        logsnr_max: the log-SNR at t = 0, finite.
    """

    logsnr_min: float = -5.0
    logsnr_max: float = 13.3

    def __post_init__(self) -> None:
        _check_ends(self.logsnr_min, self.logsnr_max)
        if math.isinf(self.logsnr_min) or math.isinf(self.logsnr_max):
            raise InputError(f"logsnr_min {self.logsnr_min}, logsnr_max {self.logsnr_max}: a line needs finite ends")

    def logsnr(self, t: Tensor) -> Tensor:
        return self.logsnr_max + t * (self.logsnr_min - self.logsnr_max)

    def time(self, logsnr: Tensor) -> Tensor:
        return (self.logsnr_max - logsnr) / (self.logsnr_max - self.logsnr_min)

    @property
    def remedy(self) -> str:
        return "lower logsnr_min (raise sigma_max)"


def geometric(sigma_min: float = 0.01, sigma_max: float = 50.0) -> LinearLogSNR:
    """sigma/alpha in geometric progression, ``sigma_min (sigma_max / sigma_min)^t``: a log-SNR linear in t.

    The clock of NCSN and of the VE SDE (Song & Ermon 2019; Song et al. 2021, appendix C).
    """
    if not 0 < sigma_min < sigma_max < math.inf:
        raise InputError(f"sigma_min {sigma_min}, sigma_max {sigma_max}: need 0 < sigma_min < sigma_max")
    return LinearLogSNR(logsnr_min=-2 * math.log(sigma_max), logsnr_max=-2 * math.log(sigma_min))


@dataclass(frozen=True)
class Logistic(Schedule):
    """``u = sigma / (alpha + sigma)`` linear in t: on the straight path, sigma = t (Lipman et al. 2023, eq. 20).

    ``logsnr = 2 log((1 - u) / u)``. By default u goes from exactly 0 to exactly 1, from data to pure noise.

    Arguments:
        logsnr_min: the log-SNR at t = 1.
        logsnr_max: the log-SNR at t = 0.
    """

    logsnr_min: float = -math.inf
    logsnr_max: float = math.inf

    def __post_init__(self) -> None:
        _check_ends(self.logsnr_min, self.logsnr_max)

    def logsnr(self, t: Tensor) -> Tensor:
        # u and 1 - u, each exact where it is small.
        u = (1 - t) * _fraction(self.logsnr_max) + t * _fraction(self.logsnr_min)
        complement = (1 - t) * _fraction(-self.logsnr_max) + t * _fraction(-self.logsnr_min)
        return 2 * (torch.log(complement) - torch.log(u))

    def time(self, logsnr: Tensor) -> Tensor:
        start, end = _fraction(self.logsnr_max), _fraction(self.logsnr_min)
        return (torch.sigmoid(-0.5 * logsnr) - start) / (end - start)

    @property
    def remedy(self) -> str:
        return "lower logsnr_min"


@dataclass(frozen=True)
class Cut(Schedule):
    """A section of a schedule, stretched over [0, 1].

    Arguments:
        schedule: the whole schedule.
        logsnr_min: the log-SNR at t = 1.
        logsnr_max: the log-SNR at t = 0.

    Raises:
        InputError: ends that are out of order or outside the schedule's.
    """

    schedule: Schedule
    logsnr_min: float
    logsnr_max: float
    _start: float = field(init=False, repr=False)
    _end: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_ends(self.logsnr_min, self.logsnr_max)
        wanted = [self.logsnr_max, self.logsnr_min]
        start, end = self.schedule.time(torch.tensor(wanted, dtype=torch.float64)).tolist()
        if not (-1e-9 <= start < end <= 1 + 1e-9):  # an end that was computed, not copied
            raise InputError(
                f"logsnr_min {self.logsnr_min:.6g}, logsnr_max {self.logsnr_max:.6g}: outside the schedule, which goes "
                f"from {float(self.schedule.logsnr(torch.ones(()).double())):.6g} to "
                f"{float(self.schedule.logsnr(torch.zeros(()).double())):.6g}"
            )
        object.__setattr__(self, "_start", max(start, 0.0))
        object.__setattr__(self, "_end", min(end, 1.0))

    def logsnr(self, t: Tensor) -> Tensor:
        return self.schedule.logsnr((1 - t) * self._start + t * self._end)

    def time(self, logsnr: Tensor) -> Tensor:
        return (self.schedule.time(logsnr) - self._start) / (self._end - self._start)

    @property
    def remedy(self) -> str:
        return "lower logsnr_min"


def _fraction(logsnr: float) -> float:
    """sigma / (alpha + sigma) at a log-SNR; at its negative, the complement to 1."""
    return 1 / (1 + _exp(0.5 * logsnr))


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _check_ends(logsnr_min: float, logsnr_max: float) -> None:
    if not logsnr_min < logsnr_max:
        raise InputError(f"logsnr_min {logsnr_min}, logsnr_max {logsnr_max}: need logsnr_min < logsnr_max")
