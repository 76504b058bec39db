"""Encoders q(z_t | z_{t-1}) of two kinds, learned and linear, and the terms of the bound for each.

    -ELBO = E_q [ log q(z_1 .. z_T | x) - log p(z_T) - sum_t log p(z_{t-1} | z_t) - log p(x | z_1) ]

A learned encoder has only q(z_t | z_{t-1}), so its entropies H are exact, given a path, and the rest is sampled:

    prior    KL(q(z_T | z_{T-1}) || p(z_T))
    step t   -log p(z_{t-1} | z_t) - H(q(z_{t-1} | z_{t-2}))                    t = 2 .. T

A linear encoder with fixed variances is jointly Gaussian. By Bayes' rule every term is a KL:

    prior    KL(q(z_T | x) || p(z_T))
    step t   KL(q(z_{t-1} | z_t, x) || p(z_{t-1} | z_t))                        t = 2 .. T

and needs only z_t, drawn from q(z_t | x). Both have the negative ELBO as their mean (Sohl-Dickstein et al. 2015,
appendix B; Luo 2022, eq. 45 and 58).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core import Gaussian, NoiseSource
from sfumato.core.levels import expand
from sfumato.errors import InputError

from .gaussian_mlp import GaussianMLP


class Encoding(ABC):
    """The encoding of one batch: ``latents`` z_1 .. z_T, each (B, d_t), and the terms above that they give."""

    latents: Sequence[Tensor]

    @abstractmethod
    def prior_term(self, prior: Gaussian) -> Float[Tensor, "b"]:
        """The cost of the top latent under ``prior``, nats per sample."""

    @abstractmethod
    def step_term(self, t: int, step: Gaussian) -> Float[Tensor, "b"]:
        """The cost of z_{t-1} under ``step``, which is p(z_{t-1} | z_t), nats per sample; t = 2 .. T."""


class Encoder(nn.Module, ABC):
    """q(z_t | z_{t-1}) for t = 1 .. T over flat samples z_0 = x of shape (B, D)."""

    @abstractmethod
    def step(self, z: Float[Tensor, "b n"], t: int) -> Gaussian:
        """q(z_t | z_{t-1} = z)."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "b n"], noise: NoiseSource) -> Encoding:
        """The encoding of a batch; draw t of ``noise`` makes z_t."""


@dataclass(frozen=True)
class _Path(Encoding):
    """A path z_1 .. z_T, and the Gaussians that its latents were drawn from."""

    latents: Sequence[Tensor]
    steps: Sequence[Gaussian]

    def prior_term(self, prior: Gaussian) -> Float[Tensor, "b"]:
        return self.steps[-1].kl(prior)

    def step_term(self, t: int, step: Gaussian) -> Float[Tensor, "b"]:
        return -step.log_prob(self.latents[t - 2]) - _entropy(self.steps[t - 2])


def _entropy(gaussian: Gaussian) -> Tensor:
    terms = gaussian.variance.log().expand_as(gaussian.mean) + math.log(2 * math.pi * math.e)
    return 0.5 * terms.flatten(1).sum(1)


class LearnedEncoder(Encoder):
    """A ``GaussianMLP`` for each q(z_t | z_{t-1}).

    Arguments:
        dimensions: those of z_0 .. z_T.
        hidden: width of the networks.
        depth: residual blocks of the networks.
    """

    def __init__(self, dimensions: Sequence[int], hidden: SupportsIndex, depth: SupportsIndex) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            [GaussianMLP(below, above, hidden, depth) for below, above in pairwise(dimensions)]
        )

    def step(self, z: Float[Tensor, "b n"], t: int) -> Gaussian:
        gaussian: Gaussian = self.networks[t - 1](z)
        return gaussian

    def forward(self, x: Float[Tensor, "b n"], noise: NoiseSource) -> Encoding:
        latents: list[Tensor] = []
        steps: list[Gaussian] = []
        z = x
        for t in range(1, len(self.networks) + 1):
            steps.append(self.step(z, t))
            z = steps[-1].sample(noise(t, steps[-1].mean))
            latents.append(z)
        return _Path(latents, steps)


class LinearEncoder(Encoder):
    """q(z_t | z_{t-1}) = N(sqrt(1 - beta_t) z_{t-1}, beta_t I) with given ``betas``; nothing is learned.

    The joint Gaussian of its steps is composed step by step and then conditioned. With ``m_0 = 1, v_0 = 0``,

        q(z_t | x)            = N(m_t x, v_t),    m_t = sqrt(1 - beta_t) m_{t-1},    v_t = (1 - beta_t) v_{t-1} + beta_t
        cov(z_{t-1}, z_t | x) = sqrt(1 - beta_t) v_{t-1}
        q(z_{t-1} | z_t, x)   = N((sqrt(1 - beta_t) v_{t-1} z_t + m_{t-1} beta_t x) / v_t, v_{t-1} beta_t / v_t)

    Arguments:
        betas: one variance per latent, each inside (0, 1).

    Raises:
        InputError: other betas.
    """

    def __init__(self, betas: Sequence[float] | Tensor) -> None:
        super().__init__()
        given = torch.as_tensor(betas, dtype=torch.float64).detach().cpu()
        if given.ndim != 1 or len(given) == 0 or not bool(((given > 0) & (given < 1)).all()):
            raise InputError("betas: a linear encoder takes one variance per latent, each inside (0, 1)")
        self.betas = given
        means, variances = [given.new_ones(())], [given.new_zeros(())]
        for beta in given:
            means.append((1 - beta).sqrt() * means[-1])
            variances.append((1 - beta) * variances[-1] + beta)
        # Settings, not state: float64 for any type of weights, and not saved with them.
        self.means, self.variances = torch.stack(means), torch.stack(variances)

    def step(self, z: Float[Tensor, "b *s"], t: int) -> Gaussian:
        beta = self.betas[t - 1]
        return Gaussian(expand((1 - beta).sqrt(), z) * z, expand(beta, z))

    def marginal(self, x: Float[Tensor, "b *s"], t: int) -> Gaussian:
        """q(z_t | x)."""
        return Gaussian(expand(self.means[t], x) * x, expand(self.variances[t], x))

    def posterior(self, z_t: Float[Tensor, "b *s"], x: Float[Tensor, "b *s"], t: int) -> Gaussian:
        """q(z_{t-1} | z_t, x), t = 2 .. T."""
        beta, m, v, v_t = self.betas[t - 1], self.means[t - 1], self.variances[t - 1], self.variances[t]
        # 1 - (1 - beta) v / v_t = beta / v_t avoids a subtraction that nearly cancels.
        mean = expand((1 - beta).sqrt() * v / v_t, x) * z_t + expand(m * beta / v_t, x) * x
        return Gaussian(mean, expand(v * beta / v_t, x))

    def forward(self, x: Float[Tensor, "b n"], noise: NoiseSource) -> Encoding:
        latents = [self.marginal(x, t).sample(noise(t, x)) for t in range(1, len(self.betas) + 1)]
        return _Marginals(latents, x, self)


@dataclass(frozen=True)
class _Marginals(Encoding):
    """Latents drawn from q(z_t | x) one by one: they need not form a path."""

    latents: Sequence[Tensor]
    x: Tensor
    encoder: LinearEncoder

    def prior_term(self, prior: Gaussian) -> Float[Tensor, "b"]:
        return self.encoder.marginal(self.x, len(self.latents)).kl(prior)

    def step_term(self, t: int, step: Gaussian) -> Float[Tensor, "b"]:
        return self.encoder.posterior(self.latents[t - 1], self.x, t).kl(step)
