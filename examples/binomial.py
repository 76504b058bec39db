"""Binomial diffusion: the walk of a hierarchical VAE over binary numbers (Sohl-Dickstein et al. 2015, table App.1).

    q(x_t | x_{t-1}) = B(x_{t-1} (1 - beta_t) + beta_t / 2)               B(p): each number is one with probability p
    q(x_t | x_0)     = B(x_0 k_t + (1 - k_t) / 2),                        k_t = prod_{i <= t} (1 - beta_i)
    q(x_{t-1} = 1 | x_t, x_0) = l_1 m_1 / (l_0 m_0 + l_1 m_1),            l_v = q(x_t | x_{t-1} = v), m_v = q(v | x_0)
    p(x_T)           = B(1/2)

A network gives the belief P(x_0 = 1 | x_t) of each number. The step back is the posterior averaged over it,

    p(x_{t-1} = 1 | x_t) = sum_v P(x_0 = v | x_t) q(x_{t-1} = 1 | x_t, x_0 = v),

which is the true q(x_{t-1} = 1 | x_t) of each number if the belief is true. Putting the belief itself in place of x_0
would not be, because the posterior is not linear in x_0. The paper's own form, a free Bernoulli for each step, has to
learn from data what the chain already says. The numbers of x_{t-1} are drawn independently given x_t; what that loses
vanishes as the steps get shorter. ``examples/hierarchy.py`` measures it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sfumato.core import NoiseSource
from sfumato.errors import InputError
from sfumato.hierarchical import Terms
from sfumato.networks.arguments import positive


def reciprocal_betas(steps: int) -> Tensor:
    """``beta_t = 1 / (T - t + 1)``: each step erases 1 / T of the initial signal (2015, section 2.4.1).

    ``k_t = 1 - t / T``; the last step leaves nothing.
    """
    return 1 / torch.arange(positive("steps", steps), 0, -1, dtype=torch.float64)


def heartbeats(length: int = 20, period: int = 5) -> Float[Tensor, "phases n"]:
    """The toy of the 2015 paper: a one at every ``period``-th position, zeros between; all phases, (period, length).

    Drawn with equal chances, they have log2(period) bits of entropy per sequence.
    """
    positive("period", period)
    if positive("length", length) < period:
        raise InputError(f"length={length} is shorter than a period of {period}: phases would be equal; give {period}")
    return ((torch.arange(length) - torch.arange(period)[:, None]) % period == 0).float()


class BinomialChain:
    """The forward chain, in float64.

    Arguments:
        betas: (T,), each in (0, 1]; only the last may be 1.

    Raises:
        InputError: other betas.
    """

    def __init__(self, betas: Sequence[float] | Tensor) -> None:
        given = torch.as_tensor(betas, dtype=torch.float64).detach().cpu()
        if given.ndim != 1 or len(given) == 0 or not bool(((given > 0) & (given <= 1)).all() & (given[:-1] < 1).all()):
            raise InputError("betas: a binomial chain takes a vector of numbers in (0, 1); only the last may be 1")
        self.betas = given
        self.kept = torch.cat((given.new_ones(1), (1 - given).cumprod(0)))  # k_0 .. k_T

    def marginal(self, x_0: Float[Tensor, "b n"], t: Int64[Tensor, "b"]) -> Float[Tensor, "b n"]:
        """q(x_t = 1 | x_0), t = 0 .. T."""
        kept = self.kept.to(x_0.device)[t, None]
        return x_0 * kept + (1 - kept) / 2

    def posterior(
        self, x_t: Float[Tensor, "b n"], x_0: Float[Tensor, "b n"], t: Int64[Tensor, "b"]
    ) -> Float[Tensor, "b n"]:
        """q(x_{t-1} = 1 | x_t, x_0), t = 1 .. T."""
        flip = self.betas.to(x_t.device)[t - 1, None] / 2
        prior = self.marginal(x_0, t - 1)
        # The probability of x_t if x_{t-1} was one, and if it was zero.
        one, zero = torch.where(x_t > 0.5, 1 - flip, flip), torch.where(x_t > 0.5, flip, 1 - flip)
        return one * prior / (one * prior + zero * (1 - prior))

    def reverse(
        self, x_t: Float[Tensor, "b n"], belief: Float[Tensor, "b n"], t: Int64[Tensor, "b"]
    ) -> Float[Tensor, "b n"]:
        """p(x_{t-1} = 1 | x_t) for ``belief = P(x_0 = 1 | x_t)``, t = 1 .. T."""
        one, zero = (self.posterior(x_t, torch.full_like(x_t, value), t) for value in (1.0, 0.0))
        return belief * one + (1 - belief) * zero


class Beliefs(nn.Module, ABC):
    """P(x_0 = 1 | x_t) of each number."""

    @abstractmethod
    def forward(self, x_t: Float[Tensor, "b n"], t: Int64[Tensor, "b"]) -> Float[Tensor, "b n"]:
        """Its logit, ``log P(1) - log P(0)``, float64; infinite where a belief is certain."""


class NetworkBeliefs(Beliefs):
    """``(2 x_t - 1) log((1 + k_t) / (1 - k_t)) + network(2 x_t - 1, t - 1)``: a number's own evidence, and the rest.

    The first term is the evidence of x_t about its own x_0 under even odds. So a network that outputs 0, as Sfumato's
    do at initialisation, is the exact model of fair coins: log 2 per number.
    """

    def __init__(self, network: nn.Module, chain: BinomialChain) -> None:
        super().__init__()
        self.network = network
        self.chain = chain

    def forward(self, x_t: Float[Tensor, "b n"], t: Int64[Tensor, "b"]) -> Float[Tensor, "b n"]:
        dtype = next(p.dtype for p in self.network.parameters())
        signs = 2 * x_t - 1
        learned: Tensor = self.network(signs.to(dtype), (t - 1).to(dtype))
        kept = self.chain.kept.to(x_t.device)[t, None]
        return learned.double() + signs * ((1 + kept) / (1 - kept)).log()


class SequenceOracle(Beliefs):
    """The exact belief where data is one of ``sequences`` (K, n), all different and equally likely, by Bayes' rule."""

    def __init__(self, sequences: Float[Tensor, "k n"], chain: BinomialChain) -> None:
        super().__init__()
        self.sequences = _bits(sequences)
        self.chain = chain

    def forward(self, x_t: Float[Tensor, "b n"], t: Int64[Tensor, "b"]) -> Float[Tensor, "b n"]:
        agree = (1 + self.chain.kept.to(x_t.device)[t, None]) / 2  # the probability that a number is unchanged at t
        same = x_t @ self.sequences.T + (1 - x_t) @ (1 - self.sequences).T
        log_weights = same * agree.log() + (x_t.shape[1] - same) * (1 - agree).log()  # (B, K)
        weights = log_weights.softmax(1)
        # Two sums: the difference of one from 1 would round a belief that is nearly certain.
        return (weights @ self.sequences).log() - (weights @ (1 - self.sequences)).log()


class BinomialDiffusion(nn.Module):
    """A model of samples x (B, n) of zeros and ones, made of a chain and beliefs."""

    def __init__(self, chain: BinomialChain, beliefs: Beliefs) -> None:
        super().__init__()
        self.chain = chain
        self.beliefs = beliefs

    def terms(self, x: Float[Tensor, "b n"], noise: NoiseSource) -> Terms:
        """The terms of the negative ELBO, nats per sample, float64; draw t of ``noise`` makes x_t.

        KLs of Bernoullis in closed form, as in the linear hierarchy: KL(q(x_T | x_0) || B(1/2)),
        KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) for t = 2 .. T, and -log P(x_0 | x_1).

        Raises InputError for data other than zeros and ones.
        """
        x_0 = _bits(x)
        steps, batch = len(self.chain.betas), len(x)
        t = torch.arange(1, steps + 1, device=x.device).repeat_interleave(batch)
        repeated = x_0.repeat(steps, 1)
        chance = self.chain.marginal(repeated, t)
        draws = torch.cat([noise(k, x_0) for k in range(1, steps + 1)])
        x_t = _draw(chance, draws)
        logits = self.beliefs(x_t, t)  # all levels in one call
        exact = self.chain.posterior(x_t, repeated, t)
        reverse = self.chain.reverse(x_t, logits.sigmoid(), t)
        gaps = _kl(exact[batch:], reverse[batch:]).sum(1).reshape(steps - 1, batch)
        sign = 2 * x_0 - 1
        return Terms(
            prior=_kl(chance[-batch:], torch.full_like(x_0, 0.5)).sum(1),
            steps=gaps.T,
            decoder=-F.logsigmoid(sign * logits[:batch]).sum(1),
        )

    def loss(self, x: Float[Tensor, "b n"], noise: NoiseSource) -> Float[Tensor, "b"]:
        """The negative ELBO in nats per number, shape (B,), in the type of x: the loss of training."""
        return (self.terms(x, noise).nats / x.shape[1]).to(x.dtype)

    @torch.no_grad()
    def sample(self, count: int, length: int, noise: NoiseSource) -> Float[Tensor, "count n"]:
        """``count`` samples of ``length`` numbers, float32: draw 0 of ``noise`` makes x_T, draw T + 1 - t x_{t-1}."""
        if count < 0:
            raise InputError(f"count: {count} is negative; give 0 or more")
        device = next((p.device for p in self.parameters()), None)
        like = torch.zeros(count, positive("length", length), dtype=torch.float64, device=device)
        x = _draw(torch.full_like(like, 0.5), noise(0, like))
        steps = len(self.chain.betas)
        for k in range(steps, 0, -1):
            t = torch.full((count,), k, device=device)
            # At t = 1 the posterior is x_0 itself, so the step back is the belief.
            chance = self.chain.reverse(x, self.beliefs(x, t).sigmoid(), t)
            x = _draw(chance, noise(steps + 1 - k, like))
        return x.float()


def _draw(chance: Tensor, noise: Tensor) -> Tensor:
    """Ones with this probability, from standard normal noise: its distribution function is uniform."""
    uniform: Tensor = torch.special.ndtr(noise)
    return (uniform < chance).to(chance.dtype)


def _kl(a: Tensor, b: Tensor) -> Tensor:
    """KL(B(a) || B(b)) in nats; 0 log 0 = 0."""
    ones = torch.xlogy(a, a) - torch.xlogy(a, b)
    return ones + torch.xlogy(1 - a, 1 - a) - torch.xlogy(1 - a, 1 - b)


def _bits(x: Tensor) -> Tensor:
    off = (x != 0) & (x != 1)
    if bool(off.any()):
        raise InputError(
            f"data: {int(off.sum())} numbers are neither 0 nor 1, the first {float(x[off][0]):g}; give bits"
        )
    return x.double()
