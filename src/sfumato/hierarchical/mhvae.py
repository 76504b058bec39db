"""A Markovian hierarchical VAE, and the three restrictions under which it is a diffusion model.

    p(x, z_1 .. z_T)   = p(z_T) p(z_{T-1} | z_T) .. p(z_1 | z_2) p(x | z_1)
    q(z_1 .. z_T | x)  = q(z_1 | x) q(z_2 | z_1) .. q(z_T | z_{T-1})
    -log p(x)         <= prior + sum_{t=2}^{T} step t + decoder                                  (see `encoders`)

T = 1 is the ordinary VAE (Kingma & Welling 2014; Rezende et al. 2014). The restrictions are those of Luo (2022,
"Understanding diffusion models: a unified perspective").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core import Gaussian, NoiseSource, ValueGrid
from sfumato.errors import InputError
from sfumato.networks.arguments import fits, positives
from sfumato.numerics.integers import whole

from .encoders import Encoder, LearnedEncoder, LinearEncoder
from .generators import DenoisingGenerator, Generator, LearnedGenerator
from .priors import LearnedPrior, Prior, StandardPrior
from .terms import Terms


@dataclass(frozen=True)
class Restrictions:
    """Which of the three restrictions hold; all three, with a denoiser as the generator, make a diffusion model.

    Arguments:
        same_dimension: every latent has as many numbers as the data.
        linear_encoder: q(z_t | z_{t-1}) is N(sqrt(1 - beta_t) z_{t-1}, beta_t) with given betas; needs
            ``same_dimension``.
        standard_end: p(z_T) = N(0, I).

    Raises:
        InputError: a linear encoder without ``same_dimension``.
    """

    same_dimension: bool = False
    linear_encoder: bool = False
    standard_end: bool = False

    def __post_init__(self) -> None:
        if self.linear_encoder and not self.same_dimension:
            raise InputError(
                "restrictions: linear_encoder scales each latent to make the next one, so all have the same dimension; "
                "set same_dimension as well"
            )


class MarkovianHVAE(nn.Module):
    """Latents z_1 .. z_T over data of shape (B, *shape) in model units.

    Arguments:
        shape: shape of one sample, which is treated as one vector.
        widths: dimensions of z_1 .. z_T.
        hidden: width of the learned networks (``GaussianMLP``).
        depth: residual blocks of the learned networks.
        grid: the values of data with levels, whose bound is on a probability; None for a density.
        restrictions: which of the three hold.
        betas: those of the linear encoder, one per latent; None for a learned encoder.
        generator: a denoiser instead of the learned generator. It brings its own betas and decoder.

    Raises:
        InputError: arguments that contradict each other, and data of another shape.
    """

    encoder: Encoder
    generator: Generator
    prior: Prior

    def __init__(
        self,
        shape: Sequence[SupportsIndex],
        widths: Sequence[SupportsIndex],
        hidden: SupportsIndex = 128,
        depth: SupportsIndex = 2,
        grid: ValueGrid | None = None,
        restrictions: Restrictions | None = None,
        betas: Sequence[float] | Tensor | None = None,
        generator: DenoisingGenerator | None = None,
    ) -> None:
        super().__init__()
        restrictions = restrictions or Restrictions()
        self.shape, self.widths = positives("shape", shape), positives("widths", widths)
        numbers = math.prod(self.shape)
        if restrictions.same_dimension and set(self.widths) != {numbers}:
            raise InputError(
                f"widths={_shown(self.widths)} with restrictions.same_dimension: the data has {numbers} numbers; "
                f"give {numbers} for each latent, or lift the restriction"
            )
        dimensions = (numbers, *self.widths)
        if generator is not None:
            if betas is not None or grid is not None or not restrictions.linear_encoder:
                raise InputError(
                    "generator: a denoiser needs restrictions.linear_encoder and brings its own betas and decoder; "
                    "set the restriction, and leave out betas and grid"
                )
            if generator.shape != self.shape:
                raise InputError(
                    f"generator: made for shape {generator.shape}, but the data has {self.shape}; give the same shape"
                )
            self.generator, self.encoder = generator, generator.chain
        else:
            self.generator = LearnedGenerator(dimensions, hidden, depth, grid)
            self.encoder = _encoder(dimensions, hidden, depth, restrictions, betas)
        if isinstance(self.encoder, LinearEncoder) and len(self.encoder.betas) != len(self.widths):
            raise InputError(
                f"widths: {len(self.widths)} latents, but betas for {len(self.encoder.betas)}; give one beta per latent"
            )
        self.prior = StandardPrior() if restrictions.standard_end else LearnedPrior(self.widths[-1])

    def terms(self, x: Float[Tensor, "b *s"], noise: NoiseSource) -> Terms:
        """The terms of the negative ELBO, nats per sample, float64; draw t of ``noise`` makes z_t.

        They are unbiased, from one draw of each latent, and differentiable in everything that is learned.
        """
        fits(x, self.shape)
        flat = x.flatten(1).double()
        encoding = self.encoder(flat, noise)
        z = encoding.latents
        steps = [encoding.step_term(t, self.generator.step(z[t - 1], t)) for t in range(2, len(z) + 1)]
        return Terms(
            prior=encoding.prior_term(self.prior(z[-1])),
            steps=torch.stack(steps, dim=1) if steps else flat.new_zeros(len(x), 0),
            decoder=-self.generator.log_prob(flat, z[0]),
        )

    def loss(self, x: Float[Tensor, "b *s"], noise: NoiseSource) -> Float[Tensor, "b"]:
        """The negative ELBO in nats per dimension, shape (B,), in the type of x: the loss of training."""
        return (self.terms(x, noise).nats / math.prod(self.shape)).to(x.dtype)

    def log_ratio(self, x: Float[Tensor, "b *s"], noise: NoiseSource) -> Float[Tensor, "b"]:
        """``log q(z_1 .. z_T | x) - log p(x, z_1 .. z_T)`` of one path, nats per sample, float64.

        This is the bound by its definition, with nothing integrated. It has the mean of ``terms``, and its spread
        vanishes as the encoder approaches the model's own posterior. Averages of ``exp(-r)`` over paths are unbiased
        for p(x) (Burda et al. 2016, eq. 8). Draw t makes z_t from z_{t-1}.
        """
        fits(x, self.shape)
        z = x.flatten(1).double()
        ratio = z.new_zeros(len(x))
        for t, width in enumerate(self.widths, start=1):
            up = self.encoder.step(z, t)
            z_t = up.sample(noise(t, z.new_empty(len(x), width)))
            down = self.generator.log_prob(z, z_t) if t == 1 else self.generator.step(z_t, t).log_prob(z)
            ratio = ratio + up.log_prob(z_t) - down
            z = z_t
        prior: Gaussian = self.prior(z)
        return ratio - prior.log_prob(z)

    @torch.no_grad()
    def sample(self, count: SupportsIndex, noise: NoiseSource) -> Float[Tensor, "count *s"]:
        """``count`` samples, float32: draw 0 of ``noise`` makes z_T, draws T + 1 to 2 T the steps down."""
        count = whole("count", count, 0)
        device = next((p.device for p in self.parameters()), None)
        like = torch.zeros(count, self.widths[-1], device=device)
        return self._down(self.prior(like).sample(noise(0, like)), len(self.widths), noise)

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "b *s"], level: SupportsIndex, noise: NoiseSource) -> Float[Tensor, "b *s"]:
        """Encode ``x`` up to z_level and generate from there: the higher the level (1 .. T), the less of x is left."""
        fits(x, self.shape)
        level = whole("level", level)
        if not 1 <= level <= len(self.widths):
            raise InputError(f"level: {level} is not one of the latents 1 .. {len(self.widths)}; give one of them")
        return self._down(self.encoder(x.flatten(1), noise).latents[level - 1], level, noise)

    def _down(self, z: Tensor, level: int, noise: NoiseSource) -> Tensor:
        """Data from z_level; the step to z_{t-1} takes draw 2 T + 1 - t, which nothing else in this class uses."""
        last = 2 * len(self.widths)
        for t in range(level, 1, -1):
            step = self.generator.step(z, t)
            z = step.sample(noise(last + 1 - t, step.mean))
        like = z.new_zeros(len(z), math.prod(self.shape))
        return self.generator.draw(z, noise(last, like)).reshape(len(z), *self.shape)


def _encoder(
    dimensions: tuple[int, ...],
    hidden: SupportsIndex,
    depth: SupportsIndex,
    restrictions: Restrictions,
    betas: Sequence[float] | Tensor | None,
) -> Encoder:
    if restrictions.linear_encoder:
        if betas is None:
            raise InputError("betas: restrictions.linear_encoder needs one per latent; give core.cosine_betas(T)")
        return LinearEncoder(betas)
    if betas is not None:
        raise InputError("betas: a learned encoder has none; leave them out, or set restrictions.linear_encoder")
    return LearnedEncoder(dimensions, hidden, depth)


def _shown(values: Sequence[int]) -> str:
    return str(list(values)) if len(values) <= 8 else f"[{', '.join(map(str, values[:8]))}, ...]"
