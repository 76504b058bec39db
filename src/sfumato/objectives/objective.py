"""The contracts of what is minimised: a loss of any model, and an objective, the loss of a denoiser at its times."""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core import Level
from sfumato.denoisers import Denoiser

from .batch import Batch
from .pairing import Pairing
from .times import TimeSampler

M = TypeVar("M")


class Loss(nn.Module, ABC, Generic[M]):
    """A loss per sample of a model of kind M, from uniform numbers and noise: no randomness inside.

    Parameters, where there are any, are learned beside the model's. ``pairing``, where there is one, deals out the
    noise of a whole batch anew, and is for whoever has the whole batch: the losses take the noise as it comes.
    """

    pairing: Pairing | None = None
    differentiates: bool = False  # with respect to x, so that rounding a network's products would be felt

    def forward(self, module: M, batch: Batch) -> Float[Tensor, "b"]:
        """Losses (B,) to learn from, weighted by ``batch.weight``."""
        return batch.weighted(self.losses(module, batch))

    def evaluate(self, module: M, batch: Batch) -> Float[Tensor, "b"]:
        """Losses (B,) to measure by, weighted by ``batch.weight``: every time is equally likely, with no correction."""
        return batch.weighted(self.even_losses(module, batch))

    @abstractmethod
    def losses(self, module: M, batch: Batch) -> Float[Tensor, "b"]:
        """Unweighted losses (B,) to learn from."""

    @abstractmethod
    def even_losses(self, module: M, batch: Batch) -> Float[Tensor, "b"]:
        """Unweighted losses (B,) to measure by."""

    @abstractmethod
    def noise_levels(
        self, module: M, uniform: Float[Tensor, "b"], even: bool = False
    ) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]] | None:
        """(t, log-SNR) where these numbers lead ``forward``, or ``evaluate``; None for a loss without levels."""

    @abstractmethod
    def relative_weight(self, module: M, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"] | None:
        """The weight relative to the ELBO at the levels where ``evaluate`` looks; None for a loss without levels.

        With a weight w on ``|eps - eps_hat|^2`` and log-SNRs of density p it is ``2 w p`` (Kingma & Gao 2023).
        """


class Objective(Loss[Denoiser]):
    """A loss per sample at given times and noise, and the times to take.

    Draw 1 of the noise makes x_t.
    """

    def __init__(self, times: TimeSampler) -> None:
        super().__init__()
        self.times = times

    def losses(self, module: Denoiser, batch: Batch) -> Float[Tensor, "b"]:
        """Losses at the times of ``batch.uniform``, weighted so that their mean is that over all times."""
        t = self.times(batch.uniform)
        losses = self.at(module, batch, t)
        weight = self.times.weight(t)
        if weight is None:
            return losses
        weighted = losses * weight.to(losses)
        surrogate = self.times.variance_surrogate(weighted, t)
        return weighted if surrogate is None else weighted + surrogate

    def even_losses(self, module: Denoiser, batch: Batch) -> Float[Tensor, "b"]:
        return self.at(module, batch, self.times.even(batch.uniform))

    def noise_levels(
        self, module: Denoiser, uniform: Float[Tensor, "b"], even: bool = False
    ) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        t = self.times.even(uniform) if even else self.times(uniform)
        return t, module.process.level(t).logsnr.detach()

    def relative_weight(self, module: Denoiser, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        t = self.times.even(uniform)
        rate = self.times.rate(module.process, t)
        return (2 * self.weight(module.process.level(t), rate) / rate).detach()

    @abstractmethod
    def weight(self, level: Level, rate: Tensor) -> Tensor:
        """The weight on ``|eps - eps_hat|^2 / D``, as ``weights.Weight``."""

    @abstractmethod
    def at(
        self,
        denoiser: Any,
        batch: Batch,
        t: Float[Tensor, "*b"],
    ) -> Float[Tensor, "b"]:
        """Losses of shape (B,) at times ``t`` of shape () or (B,), for the kind of denoiser that it needs."""
