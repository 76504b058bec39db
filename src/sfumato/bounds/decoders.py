"""Decoders: p(x_0 | x_t) at the finest level, the last term of a bound.

With ``r = sigma / alpha`` of that level and the estimate x_0-hat,

    DiscretisedGaussian    P(x_0 = v) = integral over v's cell of N(x; x_0-hat, s^2)    Ho et al. 2020, eq. 13
    Factorised             P(x_0 = v) ~ exp(-(x_t / alpha - v)^2 / (2 r^2))             Kingma et al. 2021, eq. 8
    ContinuousGaussian     p(x_0)     = N(x_0; x_0-hat, s^2)                            a density

each a product over the numbers of a sample. The first two are probabilities of discrete data.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Chain, Gaussian, Level, Prediction, Process, ValueGrid
from sfumato.core.levels import expand
from sfumato.core.process import posterior_coefficients
from sfumato.errors import InputError


class Decoder(ABC):
    """log p(x_0 | x_t) at a bound's finest level."""

    needs_prediction: bool
    """Whether it needs the prediction at that level, which costs an evaluation."""
    grid: ValueGrid | None
    """The values that it gives probabilities of; None where it is a density."""

    @abstractmethod
    def log_prob(
        self,
        x_0: Float[Tensor, "b *s"],
        x_t: Float[Tensor, "b *s"],
        finest: Level,
        following: Level | None = None,
        prediction: Prediction | None = None,
    ) -> Float[Tensor, "b"]:
        """log p(x_0 | x_t) in nats per sample, float64.

        Arguments:
            x_0: samples (B, *) in model units.
            x_t: the noisy samples.
            finest: the level of ``x_t``, of shape () or (B,).
            following: the next level of the chain, where there is one: DDPM's variances are defined by both.
            prediction: the prediction at ``x_t``, where ``needs_prediction``.
        """


def _spread(finest: Level, following: Level | None) -> tuple[Tensor, Tensor]:
    """(small, large) variance of the step to data in DDPM's released code: beta-tilde_2 and beta_1.

    The posterior variance of that step itself is zero, so that of the next step is used.
    """
    large = finest.sigma**2
    return (large if following is None else posterior_coefficients(following, finest)[2]), large


def _between(position: Tensor, small: Tensor, large: Tensor) -> Tensor:
    return torch.exp(position * large.log() + (1 - position) * small.log())


def _given(prediction: Prediction | None) -> Prediction:
    if prediction is None:
        raise InputError("decoder: needs the prediction at the finest level; give it")
    return prediction


@dataclass(frozen=True)
class DiscretisedGaussian(Decoder):
    """DDPM's decoder: a Gaussian's mass in the cell around each value; the two outer cells are open.

    Its mean is x_0-hat. Its variance is that of the step to data: ``beta-tilde_2`` as in DDPM's released code, or where
    the prediction has a learned variance, between it and ``beta_1`` on a log scale.

    Arguments:
        grid: the values of the data.

    References:
        Ho et al. 2020, eq. 13; Nichol & Dhariwal 2021.
    """

    grid: ValueGrid
    needs_prediction = True

    def log_prob(
        self,
        x_0: Float[Tensor, "b *s"],
        x_t: Float[Tensor, "b *s"],
        finest: Level,
        following: Level | None = None,
        prediction: Prediction | None = None,
    ) -> Float[Tensor, "b"]:
        found = _given(prediction)
        small, large = (expand(v, x_0.double()) for v in _spread(finest, following))
        variance = small if found.variance_share is None else _between(found.variance_share.double(), small, large)
        return discretised_gaussian(x_0, self.grid, found.x_0, variance)


def discretised_gaussian(
    x_0: Float[Tensor, "b *s"], grid: ValueGrid, mean: Float[Tensor, "b *s"], variance: Tensor
) -> Float[Tensor, "b"]:
    """``sum_i log(mass of N(mean_i, variance_i) in x_i's cell)`` in nats, float64; ``variance`` broadcasts."""
    index = grid.index(x_0)
    centred = grid.low + grid.step * index.double() - mean.double()
    scale = variance.double().rsqrt()
    below = torch.where(index == 0, -math.inf, (centred - grid.step / 2) * scale)
    above = torch.where(index == grid.count - 1, math.inf, (centred + grid.step / 2) * scale)
    return _log_mass(below, above).flatten(1).sum(1)


def _log_mass(below: Tensor, above: Tensor) -> Tensor:
    """log(Phi(above) - Phi(below)), to full precision in both tails and for a thin cell."""
    # By symmetry a cell in the upper tail is one in the lower tail, where log Phi is exact.
    flip = below > -above
    low, high = torch.where(flip, -above, below), torch.where(flip, -below, above)
    top, bottom = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    # An open cell's bottom is log 0: its gradient would be 0 * inf.
    gap = torch.where(bottom.isinf(), -1.0, bottom - top)
    return torch.where(bottom.isinf(), top, top + torch.log(-torch.expm1(gap)))


@dataclass(frozen=True)
class Factorised(Decoder):
    """VDM's decoder: the probability of each value given the noisy number alone, without a network.

    It is exact where the noise is small compared to the step between values; VDM's learned ends ensure that.

    Arguments:
        grid: the values of the data.

    References:
        Kingma et al. 2021, eq. 8.
    """

    grid: ValueGrid
    needs_prediction = False

    def log_prob(
        self,
        x_0: Float[Tensor, "b *s"],
        x_t: Float[Tensor, "b *s"],
        finest: Level,
        following: Level | None = None,
        prediction: Prediction | None = None,
    ) -> Float[Tensor, "b"]:
        index = self.grid.index(x_0)
        x = x_t.double()
        alpha, precision = expand(finest.alpha, x), expand(finest.logsnr, x).exp()
        values = self.grid.values.to(x.device)
        distance = ((x / alpha)[..., None] - values).square()
        logits = -0.5 * precision[..., None] * distance
        chosen = logits.gather(-1, index[..., None])[..., 0]
        return (chosen - logits.logsumexp(-1)).flatten(1).sum(1)


@dataclass(frozen=True)
class ContinuousGaussian(Decoder):
    """A density for continuous data: ``N(x_0; x_0-hat, r^2)``, r = sigma / alpha of the finest level.

    r^2 is the posterior variance of x_0 where the data's density is smooth at that scale. Where the prediction has a
    learned variance, it lies between beta-tilde_2 and beta_1 as in ``DiscretisedGaussian``.

    Arguments:
        needs_prediction: False for the mean ``x_t / alpha``, which needs no network and is as good where r is small.
    """

    needs_prediction: bool = True
    grid = None

    def log_prob(
        self,
        x_0: Float[Tensor, "b *s"],
        x_t: Float[Tensor, "b *s"],
        finest: Level,
        following: Level | None = None,
        prediction: Prediction | None = None,
    ) -> Float[Tensor, "b"]:
        x = x_0.double()
        if not self.needs_prediction:
            return Gaussian(x_t.double() / expand(finest.alpha, x), expand(finest.ratio, x) ** 2).log_prob(x)
        found = _given(prediction)
        if found.variance_share is None:
            variance = expand(finest.ratio, x) ** 2
        else:
            small, large = (expand(v, x) for v in _spread(finest, following))
            variance = _between(found.variance_share.double(), small, large)
        return Gaussian(found.x_0.double(), variance).log_prob(x)


def standard_decoder(process: Process, grid: ValueGrid | None) -> Decoder:
    """DDPM's decoder for a chain, VDM's in continuous time, and a density for data without a value grid."""
    if grid is None:
        return ContinuousGaussian()
    return DiscretisedGaussian(grid) if isinstance(process.schedule, Chain) else Factorised(grid)
