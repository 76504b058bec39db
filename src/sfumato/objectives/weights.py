"""Weights on ``|eps - eps_hat|^2``, each a function of the noise level.

Every common denoising loss is one of these weights with a distribution of times, whatever the network predicts (Kingma
& Gao 2023, table 1). A weight may depend on the times through one number: the ``rate`` = -d logsnr / du, where u is the
quantile of the times. 1 / rate is the density of the log-SNRs that are drawn. The effect of a weight is

    2 w(level) / rate(level),

the weight relative to that of the ELBO, ``-log p(x_0) <= 1/2 integral |eps - eps_hat|^2 d logsnr + ...``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sfumato.core import Level

Weight = Callable[[Level, Tensor], Tensor]
"""``(level, rate) -> w``, all of the same shape."""


def simple(level: Level, rate: Tensor) -> Tensor:
    """``w = 1``, L_simple (Ho et al. 2020, eq. 14); sigma^2 on the error of the score (Song & Ermon 2019, eq. 6)."""
    return torch.ones_like(level.alpha)


def elbo(level: Level, rate: Tensor) -> Tensor:
    """``w = rate / 2``, the weight of the bound (Kingma et al. 2021, eq. 17)."""
    return 0.5 * rate


def likelihood(level: Level, rate: Tensor) -> Tensor:
    """``w = rate``, g(t)^2 on the error of the score: twice the weight of the ELBO (Song, Durkan et al. 2021)."""
    return rate


def min_snr(level: Level, rate: Tensor, most: float = 5.0) -> Tensor:
    """``w = min(1, most / SNR)``, min(SNR, most) on the error of x_0 (Hang et al. 2023, with gamma = most)."""
    return torch.clamp(most * torch.exp(-level.logsnr), max=1.0)


def sigmoid(level: Level, rate: Tensor, bias: float = 2.0) -> Tensor:
    """``sigmoid(bias - logsnr)`` relative to the ELBO (Kingma & Gao 2023, with k = bias)."""
    return 0.5 * rate * torch.sigmoid(bias - level.logsnr)


def edm(level: Level, rate: Tensor, sigma_data: float = 0.5) -> Tensor:
    """``w = 1 + (sigma / (alpha sigma_data))^2``, 1 on the error of EDM's target (Karras et al. 2022, table 1)."""
    return 1 + (level.ratio / sigma_data) ** 2


def flow(level: Level, rate: Tensor) -> Tensor:
    """``w = (1 + sigma / alpha)^2``, 1 on the error of the straight path's velocity (Lipman et al. 2023, eq. 23)."""
    return (1 + level.ratio) ** 2


def p2(level: Level, rate: Tensor, offset: float = 1.0, power: float = 1.0) -> Tensor:
    """``w = (offset + SNR)^-power``: less weight on imperceptible detail (Choi et al. 2022, eq. 8)."""
    return torch.exp(-power * torch.logaddexp(torch.full_like(level.logsnr, offset).log(), level.logsnr))


RATE_FREE = frozenset((simple, min_snr, edm, flow, p2))
"""The weights that do not use the rate, whose automatic differentiation takes a good fraction of a millisecond."""
