"""Denoisers with exact answers, to certify samplers on: mixtures of Gaussians, by name."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import VE, VP, Cosine, LinearBeta, Logistic, Process, Straight, Tabulated, geometric, linear_betas
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.numerics import random


def modes() -> ExactDenoiser:
    """25 round modes of width 0.05 in the plane, at (i, j) / 2 for i and j in -2..2, on DDPM's linear chain."""
    side = torch.arange(-2, 3, dtype=torch.float64) / 2
    mixture = GaussianMixture.isotropic(torch.cartesian_prod(side, side), 0.05)
    return ExactDenoiser(Process(VP(), Tabulated(linear_betas(1000))), mixture)


def cosine64() -> ExactDenoiser:
    """8 components in 64 dimensions, each with axes and widths (0.02 to 0.3) of its own, on the cosine clock."""
    return ExactDenoiser(Process(VP(), Cosine()), _mixture("cosine64", 8, 64, 0.5, 0.02, 0.3))


def ve16() -> ExactDenoiser:
    """10 components in 16 dimensions, widths 0.05 to 0.5, variance exploding with sigma from 80 to 0.002."""
    return ExactDenoiser(Process(VE(), geometric(0.002, 80.0)), _mixture("ve16", 10, 16, 0.6, 0.05, 0.5))


def flow4() -> ExactDenoiser:
    """6 components in 4 dimensions, widths 0.1 to 0.6, on the straight path of flow matching."""
    return ExactDenoiser(Process(Straight(), Logistic(-14.0, 14.0)), _mixture("flow4", 6, 4, 0.7, 0.1, 0.6))


def gaussian() -> ExactDenoiser:
    """One Gaussian in 8 dimensions, standard deviations 0.02 to 1.2 and a mean: a probability flow in closed form."""
    mean = 0.5 * _normal("gaussian", 1, 8)[0]
    deviations = torch.logspace(math.log10(0.02), math.log10(1.2), 8, dtype=torch.float64)
    return ExactDenoiser(Process(VP(), LinearBeta()), GaussianMixture.gaussian(mean, deviations.square().diag()))


ORACLES: dict[str, Callable[[], ExactDenoiser]] = {
    "modes": modes,
    "cosine64": cosine64,
    "ve16": ve16,
    "flow4": flow4,
    "gaussian": gaussian,
}


def _normal(name: str, rows: int, columns: int) -> Float[Tensor, "rows columns"]:
    """Standard normal numbers that depend on the name."""
    return random.normal(random.keys(random.derive(name), torch.arange(rows)), 0, columns, torch.float64)


def _mixture(name: str, count: int, width: int, spread: float, narrow: float, wide: float) -> GaussianMixture:
    """Components around N(0, spread^2) means with random axes, widths log-uniform, and weights up to 1 : 10."""
    means = spread * _normal(f"{name} means", count, width)
    keys = random.keys(random.derive(name), torch.arange(count))
    widths = narrow * (wide / narrow) ** random.uniform(keys, 0, width)
    weights = 0.1 + random.uniform(keys, 1, 1)[:, 0]
    axes, _ = torch.linalg.qr(_normal(f"{name} axes", count, width * width).reshape(count, width, width))
    return GaussianMixture(weights / weights.sum(), means, axes @ (widths**2).diag_embed() @ axes.mT)
