"""Euler steps in the process's own time t: of the probability-flow ODE, and of the reverse SDE (Song et al. 2021)."""

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Process

from .grids import adjacent
from .tableau import Tableau, constant


def euler(process: Process, times: Float[Tensor, "n"]) -> Tableau:
    """``x_s = x_t + (s - t) (f x_t - g^2 score / 2)``: the probability-flow ODE (Song et al. 2021, eq. 13), order 1.

    f and g are the process's own at t. A step that ends at data hands over x_0-hat, as time has no say about how much
    noise is left there. Raises InputError for a bad grid, and where f or g is infinite: at pure noise.
    """
    return _euler(process, times, 0.5, stochastic=False)


def euler_maruyama(process: Process, times: Float[Tensor, "n"]) -> Tableau:
    """``x_s = x_t + (s - t) (f x_t - g^2 score) + g sqrt(t - s) z``: the reverse SDE (Song et al. 2021, eq. 6).

    Of weak order 1. A step that ends at data hands over x_0-hat, without noise. Raises as ``euler``.
    """
    return _euler(process, times, 1.0, stochastic=True)


def _euler(process: Process, times: Float[Tensor, "n"], share: float, stochastic: bool) -> Tableau:
    at_t, at_s = adjacent(process, times)
    t, dt = times[:-1].double(), times[1:].double() - times[:-1].double()
    f, g2 = process.sde(t)
    # score = -eps / sigma, and eps = (x - alpha x_0) / sigma
    pull = share * g2 / at_t.sigma**2
    data = at_s.sigma == 0
    from_x_t = torch.where(data, 0.0, 1 + dt * (f + pull))
    from_x_0 = torch.where(data, 1.0, -dt * pull * at_t.alpha)
    std = torch.where(data, 0.0, (g2 * -dt).sqrt()) if stochastic else torch.zeros_like(t)
    name = "euler_maruyama" if stochastic else "euler"
    return Tableau(t, from_x_t.diag(), from_x_0.diag(), constant(std), name)
