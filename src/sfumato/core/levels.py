"""One noise level: everything that a formula needs to know of a time t."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

DATA = -2 * math.log(0.002)
"""The log-SNR that stands for data where a clock has no end: sigma / alpha = 0.002, as EDM's sigma_min."""


@dataclass(frozen=True)
class Level:
    """The level ``x_t = alpha x_0 + sigma eps`` with ``logsnr = log(alpha^2 / sigma^2)``.

    The three tensors have one shape: that of the times they were computed from, () or (B,), or that of a batch's
    leading axis with ones behind it, (B, 1, ..., 1), once ``like`` has shaped them. Computed in float64.
    At data ``sigma = 0`` and ``logsnr = +inf``; at pure noise ``alpha = 0`` and ``logsnr = -inf`` are allowed.
    """

    alpha: Tensor
    sigma: Tensor
    logsnr: Tensor

    @property
    def ratio(self) -> Tensor:
        """The noise-to-signal ratio ``sigma / alpha = exp(-logsnr / 2)``: EDM's and k-diffusion's sigma."""
        return torch.exp(-self.logsnr / 2)

    def like(self, x: Tensor) -> "Level":
        """This level shaped to broadcast against ``x`` of shape (B, *), in the type and on the device of ``x``."""
        return Level(expand(self.alpha, x), expand(self.sigma, x), expand(self.logsnr, x))


def expand(value: Tensor, x: Tensor) -> Tensor:
    """``value`` of shape () or (B,) as () or (B, 1, ..., 1) in the type of ``x`` of shape (B, *), to be used with it.

    One number stays on the CPU: torch takes it from there at once, where a copy to a GPU would wait for that.
    """
    if value.ndim == 0:
        return value.to(x.dtype)
    return value.to(device=x.device, dtype=x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
