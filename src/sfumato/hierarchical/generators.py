"""Generators p(z_{t-1} | z_t) of two kinds: learned level by level, and a denoiser."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.bounds import Decoder
from sfumato.bounds.decoders import discretised_gaussian
from sfumato.core import VP, Gaussian, Prediction, Tabulated, ValueGrid
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError

from .encoders import LinearEncoder
from .gaussian_mlp import GaussianMLP


class Generator(nn.Module, ABC):
    """p(z_{t-1} | z_t) from z_T down to data, over flat samples."""

    @abstractmethod
    def step(self, z_t: Float[Tensor, "b n"], t: int) -> Gaussian:
        """p(z_{t-1} | z_t), t = 2 .. T."""

    @abstractmethod
    def log_prob(self, x: Float[Tensor, "b n"], z_1: Float[Tensor, "b m"]) -> Float[Tensor, "b"]:
        """log p(x | z_1), nats per sample: a probability for data with levels, else a density."""

    @abstractmethod
    def draw(self, z_1: Float[Tensor, "b m"], noise: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """Data drawn from p(x | z_1) with standard normal noise."""


class LearnedGenerator(Generator):
    """A ``GaussianMLP`` for each p(z_{t-1} | z_t).

    p(x | z_1) is the mass of its Gaussian in the cell around each value of ``grid``, or the density without a grid.

    Arguments:
        dimensions: those of z_0 .. z_T.
        hidden: width of the networks.
        depth: residual blocks of the networks.
        grid: the values of data with levels; None for a density.
    """

    def __init__(
        self, dimensions: Sequence[int], hidden: SupportsIndex, depth: SupportsIndex, grid: ValueGrid | None
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            [GaussianMLP(above, below, hidden, depth) for below, above in pairwise(dimensions)]
        )
        self.grid = grid

    def step(self, z_t: Float[Tensor, "b n"], t: int) -> Gaussian:
        gaussian: Gaussian = self.networks[t - 1](z_t)
        return gaussian

    def log_prob(self, x: Float[Tensor, "b n"], z_1: Float[Tensor, "b m"]) -> Float[Tensor, "b"]:
        gaussian = self.step(z_1, 1)
        if self.grid is None:
            return gaussian.log_prob(x)
        return discretised_gaussian(x, self.grid, gaussian.mean, gaussian.variance)

    def draw(self, z_1: Float[Tensor, "b m"], noise: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """A sample of p(x | z_1), on the grid if there is one."""
        x = self.step(z_1, 1).sample(noise)
        if self.grid is None:
            return x
        index = ((x - self.grid.low) / self.grid.step).round().clamp(0, self.grid.count - 1)
        return self.grid.low + self.grid.step * index


class DenoisingGenerator(Generator):
    """A denoiser as the generator: q(z_{t-1} | z_t, x) with the denoiser's estimate in place of x.

    One network serves all levels. ``chain`` is the linear encoder with the denoiser's own betas. If a prediction has a
    learned variance share v, the variance is ``exp(v log beta_t + (1 - v) log beta-tilde_t)``.

    Arguments:
        denoiser: its process is a chain in VP's units.
        decoder: gives p(x | z_1).
        shape: shape of one sample.

    Raises:
        InputError: another process.

    References:
        Ho et al. 2020; Nichol & Dhariwal 2021, eq. 15.
    """

    def __init__(self, denoiser: Denoiser, decoder: Decoder, shape: Sequence[int]) -> None:
        super().__init__()
        schedule = denoiser.process.schedule
        if not (isinstance(schedule, Tabulated) and isinstance(denoiser.process.scaling, VP)):
            raise InputError(
                f"denoiser: its process is {type(denoiser.process.scaling).__name__} with {type(schedule).__name__}, "
                "but a hierarchy has T steps that preserve variance; give a denoiser on VP with Tabulated betas"
            )
        self.denoiser = denoiser
        self.decoder = decoder
        self.shape = tuple(shape)
        self.chain = LinearEncoder(schedule.betas)

    def _shaped(self, flat: Tensor) -> Tensor:
        return flat.reshape(len(flat), *self.shape)

    def _predict(self, z: Tensor, t: int) -> Prediction:
        prediction: Prediction = self.denoiser(z, torch.tensor(t / len(self.chain.betas), dtype=torch.float64))
        return prediction

    def step(self, z_t: Float[Tensor, "b n"], t: int) -> Gaussian:
        belief = self._predict(self._shaped(z_t), t)
        posterior = self.chain.posterior(z_t, belief.x_0.flatten(1), t)
        if belief.variance_share is None:
            return posterior
        share, large = belief.variance_share.flatten(1), self.chain.step(z_t, t).variance
        return Gaussian(posterior.mean, torch.exp(share * large.log() + (1 - share) * posterior.variance.log()))

    def log_prob(self, x: Float[Tensor, "b n"], z_1: Float[Tensor, "b m"]) -> Float[Tensor, "b"]:
        x_0, z = self._shaped(x), self._shaped(z_1)
        process, steps = self.denoiser.process, len(self.chain.betas)
        following = process.level(2 / steps) if steps > 1 else None
        prediction = self._predict(z, 1) if self.decoder.needs_prediction else None
        return self.decoder.log_prob(x_0, z, process.level(1 / steps), following, prediction)

    def draw(self, z_1: Float[Tensor, "b m"], noise: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """The denoiser's estimate: the last step of a diffusion adds no noise (Ho et al. 2020, algorithm 2)."""
        return self._predict(self._shaped(z_1), 1).x_0.flatten(1)
