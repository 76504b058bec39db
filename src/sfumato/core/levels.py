"""One noise level: everything that a formula needs to know about a time t."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

DATA = -2 * math.log(0.002)
"""The log-SNR that counts as data where a clock has no finite end: sigma / alpha = 0.002, EDM's sigma_min."""


@dataclass(frozen=True)
class Level:
    """The level ``x_t = alpha x_0 + sigma eps`` with ``logsnr = log(alpha^2 / sigma^2)``.

    The three tensors have one shape: () or (B,), that of the times, or (B, 1, ..., 1) after ``like``. They are computed
    in float64. At data ``sigma = 0`` and ``logsnr = +inf``; at pure noise ``alpha = 0`` and ``logsnr = -inf``.

    Arguments:
        alpha: the scale of the signal.
        sigma: the standard deviation of the noise.
        logsnr: the log signal-to-noise ratio.
    """

    alpha: Tensor
    sigma: Tensor
    logsnr: Tensor

    @property
    def ratio(self) -> Tensor:
        """The noise-to-signal ratio ``sigma / alpha = exp(-logsnr / 2)``, which EDM and k-diffusion call sigma."""
        return torch.exp(-self.logsnr / 2)

    def like(self, x: Tensor) -> "Level":
        """This level, shaped to broadcast against ``x`` of shape (B, *), with the type and device of ``x``."""
        return Level(expand(self.alpha, x), expand(self.sigma, x), expand(self.logsnr, x))


def expand(value: Tensor, x: Tensor) -> Tensor:
    """``value`` of shape () or (B,), as () or (B, 1, ..., 1), in the type of ``x`` of shape (B, *).

    One number stays on the CPU: torch passes it to kernels directly, while a copy to a GPU would wait.
    """
    if value.ndim == 0:
        return value.to(x.dtype)
    return value.to(device=x.device, dtype=x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
