"""The contracts of what is minimised: a loss of any model, and an objective, the loss of a denoiser at its times."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core import Level, NoiseSource
from sfumato.denoisers import Denoiser

from .times import TimeSampler

M = TypeVar("M")

Pairing = Callable[[NoiseSource], NoiseSource]


class Loss(nn.Module, ABC, Generic[M]):
    """A loss per sample of a model of kind M, from uniform numbers and noise: no randomness inside.

    Parameters, where there are any, are learned beside the model's. ``pairing``, where there is one, deals out the
    noise of a whole batch anew, and is for whoever has the whole batch: the losses take the noise as it comes.
    """

    pairing: Pairing | None = None
    differentiates: bool = False  # with respect to x, so that rounding a network's products would be felt

    @abstractmethod
    def forward(
        self,
        module: M,
        x_0: Float[Tensor, "b *s"],
        uniform: Float[Tensor, "b"],
        noise: NoiseSource,
        cond: Any = None,
    ) -> Float[Tensor, "b"]:
        """Losses of shape (B,) to learn from; ``uniform`` in (0, 1] chooses what a loss is drawn over beside noise."""

    @abstractmethod
    def evenly(
        self,
        module: M,
        x_0: Float[Tensor, "b *s"],
        uniform: Float[Tensor, "b"],
        noise: NoiseSource,
        cond: Any = None,
    ) -> Float[Tensor, "b"]:
        """The same as they are measured: with nothing drawn more often than the rest, and no weight for that."""

    @abstractmethod
    def levels(
        self, module: M, uniform: Float[Tensor, "b"], even: bool = False
    ) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]] | None:
        """(t, log-SNR) where these numbers lead ``forward``, or ``evenly``; None for a loss without levels."""

    @abstractmethod
    def emphasis(self, module: M, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"] | None:
        """The weight relative to the ELBO at the levels where ``evenly`` looks; None for a loss without levels.

        With a weight w on ``|eps - eps_hat|^2`` and log-SNRs of density p it is ``2 w p`` (Kingma & Gao 2023).
        """


class Objective(Loss[Denoiser]):
    """A loss per sample at given times and noise, and the times to take.

    Draw 1 of the noise makes x_t.
    """

    def __init__(self, times: TimeSampler) -> None:
        super().__init__()
        self.times = times

    def forward(
        self,
        module: Denoiser,
        x_0: Float[Tensor, "b *s"],
        uniform: Float[Tensor, "b"],
        noise: NoiseSource,
        cond: Any = None,
    ) -> Float[Tensor, "b"]:
        """Losses of shape (B,) at the times of these quantiles, weighted so that their mean is that over all times."""
        t = self.times(uniform)
        losses = self.at(module, x_0, t, noise, cond)
        weight = self.times.weight(t)
        if weight is None:
            return losses
        weighted = losses * weight.to(losses)
        surrogate = self.times.variance_surrogate(weighted, t)
        return weighted if surrogate is None else weighted + surrogate

    def evenly(
        self,
        module: Denoiser,
        x_0: Float[Tensor, "b *s"],
        uniform: Float[Tensor, "b"],
        noise: NoiseSource,
        cond: Any = None,
    ) -> Float[Tensor, "b"]:
        return self.at(module, x_0, self.times.even(uniform), noise, cond)

    def levels(
        self, module: Denoiser, uniform: Float[Tensor, "b"], even: bool = False
    ) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        t = self.times.even(uniform) if even else self.times(uniform)
        return t, module.process.level(t).logsnr.detach()

    def emphasis(self, module: Denoiser, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
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
        x_0: Float[Tensor, "b *s"],
        t: Float[Tensor, "*b"],
        noise: NoiseSource,
        cond: Any = None,
    ) -> Float[Tensor, "b"]:
        """Losses of shape (B,) at times ``t`` of shape () or (B,), for the kind of denoiser that it needs."""
