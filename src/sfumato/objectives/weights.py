"""Weights on ``|eps - eps_hat|^2``, each a function of the level.

Every pointwise loss of the field is one of these with times to draw, whatever the network predicts (Kingma & Gao 2023,
table 1). Of the times a weight may need to know one number, the ``rate`` = -d logsnr / du at which the log-SNR falls as
the quantile u of the times rises: 1 / rate is the density of the log-SNRs that are drawn. What counts in the end is

    2 w(level) / rate(level),

the weight relative to the ELBO, for which it is 1: ``-log p(x_0) <= 1/2 integral |eps - eps_hat|^2 d logsnr + ...``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sfumato.core import Level

Weight = Callable[[Level, Tensor], Tensor]
"""``(level, rate) -> w``, all of the level's shape."""


def simple(level: Level, rate: Tensor) -> Tensor:
    """L_simple, w = 1 (Ho et al. 2020, eq. 14); sigma^2 on the error of the score (Song & Ermon 2019, eq. 6)."""
    return torch.ones_like(level.alpha)


def elbo(level: Level, rate: Tensor) -> Tensor:
    """The bound's own, ``w = rate / 2`` (Kingma et al. 2021, eq. 17)."""
    return 0.5 * rate


def likelihood(level: Level, rate: Tensor) -> Tensor:
    """g(t)^2 on the error of the score, ``w = g^2 / sigma^2 = rate``: twice the ELBO's (Song, Durkan et al. 2021)."""
    return rate


def min_snr(level: Level, rate: Tensor, most: float = 5.0) -> Tensor:
    """``min(SNR, most)`` on the error of x_0, ``w = min(1, most / SNR)`` (Hang et al. 2023, with most = gamma)."""
    return torch.clamp(most * torch.exp(-level.logsnr), max=1.0)


def sigmoid(level: Level, rate: Tensor, bias: float = 2.0) -> Tensor:
    """``sigmoid(bias - logsnr)`` relative to the ELBO (Kingma & Gao 2023, with bias = k)."""
    return 0.5 * rate * torch.sigmoid(bias - level.logsnr)


def edm(level: Level, rate: Tensor, sigma_data: float = 0.5) -> Tensor:
    """One on EDM's target, ``w = 1 + (sigma / (alpha sigma_data))^2`` (Karras et al. 2022, table 1)."""
    return 1 + (level.ratio / sigma_data) ** 2


def flow(level: Level, rate: Tensor) -> Tensor:
    """One on the velocity of the straight path, ``w = (1 + sigma / alpha)^2`` (Lipman et al. 2023, eq. 23)."""
    return (1 + level.ratio) ** 2


def p2(level: Level, rate: Tensor, offset: float = 1.0, power: float = 1.0) -> Tensor:
    """``w = (offset + SNR)^-power``: less where only imperceptible detail is left (Choi et al. 2022, eq. 8)."""
    return torch.exp(-power * torch.logaddexp(torch.full_like(level.logsnr, offset).log(), level.logsnr))


LEVEL_ALONE = frozenset((simple, min_snr, edm, flow, p2))
"""Those that do not look at the rate, which by automatic differentiation takes a good part of a millisecond."""
