"""The weighted denoising loss.

    L = E_{t, x_0, eps} w(level) |eps - eps_hat(x_t, t)|^2 / D

Two predictions with the same x_t differ by ``y - y_hat = (det / alpha) (eps - eps_hat)`` in any target's units, so the
same loss is ``w (alpha / det)^2 |y - y_hat|^2``: well-conditioned wherever the network's own target is.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sfumato.denoisers import NetworkDenoiser

from .times import TimeSampler
from .weights import Weight


@dataclass(frozen=True)
class DenoisingLoss:
    """The loss of a network denoiser, per sample, for given quantiles of time and noise: no randomness inside."""

    times: TimeSampler
    weight: Weight

    def __call__(
        self,
        denoiser: NetworkDenoiser,
        x_0: Float[Tensor, "b *s"],
        uniform: Float[Tensor, "b"],
        noise: Float[Tensor, "b *s"],
        cond: Any = None,
    ) -> Float[Tensor, "b"]:
        """Losses of shape (B,), means over the D numbers of a sample, at times ``times(uniform)``."""
        return self.at(denoiser, x_0, self.times(uniform), noise, cond)

    def at(
        self,
        denoiser: NetworkDenoiser,
        x_0: Float[Tensor, "b *s"],
        t: Float[Tensor, "*b"],
        noise: Float[Tensor, "b *s"],
        cond: Any = None,
    ) -> Float[Tensor, "b"]:
        """The same at given times ``t``, of shape () or (B,)."""
        level = denoiser.process.level(t)
        x_t = denoiser.process.perturb(x_0, t, noise)
        error = denoiser.target.encode(x_0, noise, level) - denoiser.output(x_t, t, cond)
        weight = self.weight(level) * (level.alpha / denoiser.target.det(level)) ** 2
        return weight.to(error) * error.square().flatten(1).mean(1)
