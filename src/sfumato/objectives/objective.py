"""The interfaces: ``Loss``, for any model, and ``Objective``, the loss of a denoiser at random times."""

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
    """A loss per sample of a model of type M, a function of the batch: nothing is drawn inside.

    Parameters of a loss are trained together with those of the model. A ``pairing`` reassigns the noise of a whole
    batch. The caller who holds the whole batch applies it (``noise_of``); the losses use the noise as given.
    """

    pairing: Pairing | None = None
    differentiates: bool = False  # whether the loss differentiates the network by x, which amplifies rounding errors

    def forward(self, module: M, batch: Batch) -> Float[Tensor, "b"]:
        """Losses (B,) to train on, weighted by ``batch.weight``."""
        return batch.weighted(self.losses(module, batch))

    def evaluate(self, module: M, batch: Batch) -> Float[Tensor, "b"]:
        """Losses (B,) for evaluation, weighted by ``batch.weight``: every time is equally likely."""
        return batch.weighted(self.even_losses(module, batch))

    @abstractmethod
    def losses(self, module: M, batch: Batch) -> Float[Tensor, "b"]:
        """Losses (B,) to train on, without ``batch.weight``."""

    @abstractmethod
    def even_losses(self, module: M, batch: Batch) -> Float[Tensor, "b"]:
        """Losses (B,) for evaluation, without ``batch.weight``."""

    @abstractmethod
    def noise_levels(
        self, module: M, uniform: Float[Tensor, "b"], even: bool = False
    ) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]] | None:
        """The noise levels at which the loss is computed.

        Arguments:
            module: the model.
            uniform: the uniform numbers of a batch.
            even: whether the levels are those of ``evaluate`` instead of ``forward``.

        Returns:
            Times and log-SNRs, (B,) each; None for a loss without noise levels.
        """

    @abstractmethod
    def relative_weight(self, module: M, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"] | None:
        """The weight relative to the ELBO at the noise levels of ``evaluate``; None for a loss without noise levels.

        With a weight w on ``|eps - eps_hat|^2`` and log-SNRs of density p it is ``2 w p``.

        References:
            Kingma & Gao 2023.
        """


class Objective(Loss[Denoiser]):
    """The loss of a denoiser at given times, and the distribution of these times.

    Draw 1 of the noise makes x_t.

    Arguments:
        times: the distribution of times.
    """

    def __init__(self, times: TimeSampler) -> None:
        super().__init__()
        self.times = times

    def losses(self, module: Denoiser, batch: Batch) -> Float[Tensor, "b"]:
        """Losses at the times of ``batch.uniform``, weighted so that their mean equals that over even times."""
        t = self.times(batch.uniform)
        losses = self.at(module, batch, t)
        weight = self.times.importance_weight(t)
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
        """The weight on ``|eps - eps_hat|^2 / D``, a ``weights.Weight``."""

    @abstractmethod
    def at(
        self,
        denoiser: Any,
        batch: Batch,
        t: Float[Tensor, "*b"],
    ) -> Float[Tensor, "b"]:
        """Losses at given times.

        Arguments:
            denoiser: a denoiser of the kind that this objective needs.
            batch: the samples; its ``uniform`` numbers are not used.
            t: times of shape () or (B,).

        Returns:
            Losses (B,).
        """
