"""The contract of an objective."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core import NoiseSource
from sfumato.denoisers import NetworkDenoiser
from sfumato.numerics.density import variance_surrogate

from .times import TimeSampler


class Objective(nn.Module, ABC):
    """A loss per sample at given times and noise, and the times to take: no randomness inside.

    Draw 1 of the noise makes x_t.
    Parameters, where ``times`` has any, are learned beside the network's.
    """

    def __init__(self, times: TimeSampler) -> None:
        super().__init__()
        self.times = times

    def forward(
        self,
        denoiser: NetworkDenoiser,
        x_0: Float[Tensor, "b *s"],
        uniform: Float[Tensor, "b"],
        noise: NoiseSource,
        cond: Any = None,
    ) -> Float[Tensor, "b"]:
        """Losses of shape (B,) at the times of these quantiles, weighted so that their mean is that over all times."""
        t = self.times(uniform)
        losses = self.at(denoiser, x_0, t, noise, cond)
        weight = self.times.weight(t)
        if weight is None:
            return losses
        weighted = losses * weight.to(losses)
        log_prob = self.times.log_prob(t)
        return weighted if log_prob is None else weighted + variance_surrogate(weighted, log_prob)

    @abstractmethod
    def at(
        self,
        denoiser: NetworkDenoiser,
        x_0: Float[Tensor, "b *s"],
        t: Float[Tensor, "*b"],
        noise: NoiseSource,
        cond: Any = None,
    ) -> Float[Tensor, "b"]:
        """Losses of shape (B,) at times ``t`` of shape () or (B,)."""
