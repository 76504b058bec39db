"""The units of x_t: alpha and sigma as functions of the log-SNR.

With ``L = logsnr = log(alpha^2 / sigma^2)`` fixed, only the overall scale of x_t is free:

    VP        alpha^2 + sigma^2 = 1      alpha^2 = sigmoid(L),     sigma^2 = sigmoid(-L)
    VE        alpha = 1                                            sigma = exp(-L / 2)
    straight  alpha + sigma = 1          alpha = sigmoid(L / 2),   sigma = sigmoid(-L / 2)
    sub-VP    alpha^2 + sigma = 1        alpha = exp(-asinh(exp(-L / 2) / 2))

Each path has its own velocity: along the coordinate ``tau`` of ``coordinate`` the clock drops out, and
``dx_t / dtau = a x_0 + b eps`` with the row (a, b) of ``tangent``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .levels import Level


class Scaling(ABC):
    """alpha and sigma as functions of the log-SNR, valid in (-inf, inf], and at -inf where the path reaches it."""

    @abstractmethod
    def log_alpha(self, logsnr: Tensor) -> Tensor:
        """log alpha at a log-SNR."""

    @abstractmethod
    def log_sigma(self, logsnr: Tensor) -> Tensor:
        """log sigma at a log-SNR; -inf at data. Not computed as log_alpha - logsnr / 2, which is nan at the ends."""

    @abstractmethod
    def coordinate(self, level: Level) -> Tensor:
        """The coordinate tau of the path, increasing from 0 at data."""

    @abstractmethod
    def tangent(self, level: Level) -> tuple[Tensor, Tensor]:
        """The row (a, b) of ``dx_t / dtau = a x_0 + b eps``."""

    def at(self, logsnr: Tensor) -> Level:
        """The level with this log-SNR."""
        return Level(self.log_alpha(logsnr).exp(), self.log_sigma(logsnr).exp(), logsnr)


@dataclass(frozen=True)
class VP(Scaling):
    """Variance preserving, alpha^2 + sigma^2 = 1; tau is the angle from data to noise (Song et al. 2021, eq. 11)."""

    def log_alpha(self, logsnr: Tensor) -> Tensor:
        return 0.5 * F.logsigmoid(logsnr)

    def log_sigma(self, logsnr: Tensor) -> Tensor:
        return 0.5 * F.logsigmoid(-logsnr)

    def coordinate(self, level: Level) -> Tensor:
        return torch.atan2(level.sigma, level.alpha)

    def tangent(self, level: Level) -> tuple[Tensor, Tensor]:
        return -level.sigma, level.alpha


@dataclass(frozen=True)
class VE(Scaling):
    """Variance exploding, alpha = 1; tau is sigma (Song et al. 2021, eq. 9; Karras et al. 2022)."""

    def log_alpha(self, logsnr: Tensor) -> Tensor:
        return torch.zeros_like(logsnr)

    def log_sigma(self, logsnr: Tensor) -> Tensor:
        return -0.5 * logsnr

    def coordinate(self, level: Level) -> Tensor:
        return level.sigma

    def tangent(self, level: Level) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(level.alpha), torch.ones_like(level.alpha)


@dataclass(frozen=True)
class Straight(Scaling):
    """The straight path of flow matching, alpha + sigma = 1; tau is sigma (Lipman et al. 2023; Liu et al. 2023)."""

    def log_alpha(self, logsnr: Tensor) -> Tensor:
        return F.logsigmoid(0.5 * logsnr)

    def log_sigma(self, logsnr: Tensor) -> Tensor:
        return F.logsigmoid(-0.5 * logsnr)

    def coordinate(self, level: Level) -> Tensor:
        return level.sigma

    def tangent(self, level: Level) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(level.alpha), torch.ones_like(level.alpha)


@dataclass(frozen=True)
class SubVP(Scaling):
    """Sub-VP, sigma = 1 - alpha^2; tau is 1 - alpha (Song et al. 2021, eq. 29)."""

    def log_alpha(self, logsnr: Tensor) -> Tensor:
        return -torch.asinh(0.5 * torch.exp(-0.5 * logsnr))

    def log_sigma(self, logsnr: Tensor) -> Tensor:
        return torch.log(-torch.expm1(2 * self.log_alpha(logsnr)))

    def coordinate(self, level: Level) -> Tensor:
        return level.sigma / (1 + level.alpha)  # 1 - alpha without the cancellation

    def tangent(self, level: Level) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(level.alpha), 2 * level.alpha
