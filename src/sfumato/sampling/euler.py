"""Song et al. 2021: Euler steps of the probability-flow ODE and of the reverse SDE, and reverse-diffusion steps."""

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Process
from sfumato.core.process import added_noise_fraction

from .grids import adjacent
from .tableau import Tableau, constant


def euler(process: Process, times: Float[Tensor, "n"]) -> Tableau:
    """``x_s = x_t + (s - t) (f x_t - g^2 score / 2)``: the probability-flow ODE (Song et al. 2021, eq. 13), order 1.

    f and g are those of the process at t. A step that ends at data returns x_0-hat, because time does not determine how
    much noise is left there.

    Arguments:
        process: the process.
        times: N + 1 decreasing times.

    Raises:
        InputError: a bad grid, or a start at pure noise, where f or g is infinite.
    """
    return _euler(process, times, 0.5, stochastic=False)


def euler_maruyama(process: Process, times: Float[Tensor, "n"]) -> Tableau:
    """``x_s = x_t + (s - t) (f x_t - g^2 score) + g sqrt(t - s) z``: the reverse SDE (Song et al. 2021, eq. 6).

    It has weak order 1. A step that ends at data returns x_0-hat, without noise.

    Arguments:
        process: the process.
        times: N + 1 decreasing times.

    Raises:
        InputError: as for ``euler``.
    """
    return _euler(process, times, 1.0, stochastic=True)


def reverse_diffusion(process: Process, times: Float[Tensor, "n"]) -> Tableau:
    """``x_s = (2 - alpha_t / alpha_s) x_t + g^2 score + g z``: the forward step reversed.

    The forward step over the same levels is exactly ``x_t = (alpha_t / alpha_s) x_s + g z`` with ``g^2 = sigma_t^2 c``;
    in VE ``g^2 = sigma_t^2 - sigma_s^2``, on a chain beta_t. A step that ends at data returns x_0-hat, without noise.

    Arguments:
        process: the process.
        times: N + 1 decreasing times.

    Raises:
        InputError: a bad grid.

    References:
        Song et al. 2021, eq. 46 and 47.
    """
    at_t, at_s = adjacent(process, times)
    data = at_s.sigma == 0
    pull = added_noise_fraction(at_t, at_s)  # g^2 / sigma_t^2
    from_x_t = torch.where(data, 0.0, 2 - at_t.alpha / at_s.alpha - pull)
    from_x_0 = torch.where(data, 1.0, pull * at_t.alpha)
    std = torch.where(data, 0.0, at_t.sigma * pull.sqrt())
    return Tableau(times[:-1].double(), from_x_t.diag(), from_x_0.diag(), constant(std), "reverse_diffusion")


def _euler(process: Process, times: Float[Tensor, "n"], weight: float, stochastic: bool) -> Tableau:
    """Steps with ``weight`` times g^2 score."""
    at_t, at_s = adjacent(process, times)
    t, dt = times[:-1].double(), times[1:].double() - times[:-1].double()
    f, g2 = process.sde(t)
    # score = -eps / sigma, and eps = (x - alpha x_0) / sigma
    pull = weight * g2 / at_t.sigma**2
    data = at_s.sigma == 0
    from_x_t = torch.where(data, 0.0, 1 + dt * (f + pull))
    from_x_0 = torch.where(data, 1.0, -dt * pull * at_t.alpha)
    std = torch.where(data, 0.0, (g2 * -dt).sqrt()) if stochastic else torch.zeros_like(t)
    name = "euler_maruyama" if stochastic else "euler"
    return Tableau(t, from_x_t.diag(), from_x_0.diag(), constant(std), name)
