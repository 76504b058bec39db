"""Distributions in the plane: small, of known shape, three of them with a known density."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import SupportsIndex

import torch
from jaxtyping import Float, Float64
from torch import Generator, Tensor

from ..numerics.integers import whole
from .order import generator

_NOISE = 0.05  # standard deviation of the noise around the curves, and of each mode of `gaussians`
_NODES = 1024  # of the integral along the roll: at most 0.0145 apart in angle, while the noise is at least 0.035 wide
_CHUNK = 256  # points at a time: a few MB


@dataclass(frozen=True)
class Toy:
    """A distribution on R^2.

    Arguments:
        name: its name as a source of data.
        draw: returns n samples (n, 2), given n and a generator.
        log_prob: log density (b,) in nats of points (b, 2), or None where it is not known.
    """

    name: str
    draw: Callable[[int, Generator], Tensor]
    log_prob: Callable[[Tensor], Tensor] | None = None

    def sample(self, n: SupportsIndex, seed: SupportsIndex) -> Float64[Tensor, "n 2"]:
        """Return ``n`` independent samples, a function of ``n`` and ``seed`` only.

        Raises:
            InputError: a number of samples or a seed that is no integer, or a negative number.
        """
        return self.draw(whole("n", n, 0), generator(whole("seed", seed), "toy", self.name))


def _uniform(random: Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=random, dtype=torch.float64)


def _normal(random: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def _moons(n: int, random: Generator) -> Tensor:
    """Two interleaved half circles of radius 1 around (0, 0) and (1, 1/2), with noise."""
    angle = math.pi * _uniform(random, n)
    upper = torch.stack((angle.cos(), angle.sin()), dim=-1)
    lower = upper.new_tensor([1.0, 0.5]) - upper
    curve = torch.where(_uniform(random, n, 1) < 0.5, upper, lower)
    return curve + _NOISE * _normal(random, n, 2)


def _swiss_roll(n: int, random: Generator) -> Tensor:
    """The spiral ``r = angle / 10`` for a uniform angle in (1.5 pi, 4.5 pi), with noise."""
    return _spiral(1.5 + 3 * _uniform(random, n)) + _NOISE * _normal(random, n, 2)


def _spiral(half_turns: Tensor) -> Tensor:
    angle = math.pi * half_turns
    return torch.stack((angle * angle.cos(), angle * angle.sin()), dim=-1) / 10


@cache
def _along_the_roll() -> tuple[Tensor, Tensor]:
    """Points of the spiral and the logarithms of their weights: Fejer's first rule over the angle (Fejer 1933)."""
    # The rule is exact for polynomials of degree 1023, and dense at both ends, which dominate for far points.
    theta = math.pi * (torch.arange(_NODES, dtype=torch.float64) + 0.5) / _NODES
    j = torch.arange(1, _NODES // 2 + 1, dtype=torch.float64)
    weights = (1 - 2 * (torch.cos(2 * j * theta[:, None]) / (4 * j**2 - 1)).sum(1)) / _NODES  # they sum to 1
    return _spiral(3 - 1.5 * theta.cos()), weights.log()


def _swiss_roll_log_prob(x: Float[Tensor, "b 2"]) -> Float[Tensor, "b"]:
    """``log integral N(x; spiral(a), 0.05^2 I) da / (3 pi)``, by quadrature in float64.

    Accurate to 1e-7 nats within 10 of the origin, and to rounding near the roll.
    """
    points, weights = (each.to(x.device) for each in _along_the_roll())
    logs = [
        torch.logsumexp(weights - (chunk[:, None] - points).square().sum(dim=-1) / (2 * _NOISE**2), dim=-1)
        for chunk in torch.split(x.double(), _CHUNK)
    ]
    return (torch.cat(logs) - math.log(2 * math.pi * _NOISE**2)).to(x.dtype)


def _checkerboard(n: int, random: Generator) -> Tensor:
    """Uniform on the 8 squares of side 1 in [-2, 2)^2 whose lower left corners have an even sum."""
    column = torch.randint(4, (n,), generator=random)
    row = 2 * torch.randint(2, (n,), generator=random) + column % 2
    return torch.stack((column, row), dim=-1) - 2 + _uniform(random, n, 2)


def _checkerboard_log_prob(x: Float[Tensor, "b 2"]) -> Float[Tensor, "b"]:
    """-log 8 on the squares, -inf elsewhere."""
    corner = x.floor()
    inside = ((corner >= -2) & (corner < 2)).all(dim=-1) & (corner.sum(dim=-1) % 2 == 0)
    return torch.where(inside, x.new_tensor(-math.log(8.0)), -math.inf)


def _gaussian_modes(x: Tensor) -> Tensor:
    along = torch.arange(-2, 3, dtype=x.dtype, device=x.device) / 2
    return torch.cartesian_prod(along, along)


def _gaussians(n: int, random: Generator) -> Tensor:
    """25 equal isotropic modes at (i, j)/2 for i, j in -2 .. 2, standard deviation 0.05."""
    noise = _NOISE * _normal(random, n, 2)
    return _gaussian_modes(noise)[torch.randint(25, (n,), generator=random)] + noise


def _gaussians_log_prob(x: Float[Tensor, "b 2"]) -> Float[Tensor, "b"]:
    """``log mean_k N(x; m_k, 0.05^2 I)``."""
    squares = (x[:, None] - _gaussian_modes(x)).square().sum(dim=-1)
    return torch.logsumexp(-squares / (2 * _NOISE**2), dim=-1) - math.log(25 * 2 * math.pi * _NOISE**2)


TOYS: Mapping[str, Toy] = MappingProxyType(
    {
        toy.name: toy
        for toy in (
            Toy("moons", _moons),
            Toy("swiss-roll", _swiss_roll, _swiss_roll_log_prob),
            Toy("checkerboard", _checkerboard, _checkerboard_log_prob),
            Toy("gaussians", _gaussians, _gaussians_log_prob),
        )
    }
)
