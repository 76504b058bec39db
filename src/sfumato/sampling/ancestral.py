"""Ancestral sampling: the reverse chain with a fixed variance (Ho, Jain & Abbeel 2020, algorithm 2)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Process
from sfumato.core.process import added_share, posterior_coefficients
from sfumato.errors import InputError

from .grids import adjacent
from .tableau import Tableau


def ancestral(
    process: Process, times: Float[Tensor, "n"], variance: Literal["posterior", "beta"] = "posterior"
) -> Tableau:
    """``x_s = E[x_s | x_t, x_0-hat] + std z`` on any decreasing ``times``, no noise on a step that ends at data.

    ``posterior``: the variance of q(x_s | x_t, x_0), exact when all data is one point; for neighbours of a chain
    beta-tilde (Ho et al. 2020, section 3.2). ``beta``: the variance of x_s given x_t for data of unit variance,
    ``p_s sigma_t^2 c / p_t`` with ``p = alpha^2 + sigma^2``; in VP and for neighbours of a chain that is beta_t. For
    data of at most unit variance they are the lower and the upper end of what the reverse chain's can be. Raises
    InputError for any other ``variance`` and for a bad grid.
    """
    at_t, at_s = adjacent(process, times)
    from_x_t, from_x_0, small = posterior_coefficients(at_t, at_s)
    if variance == "posterior":
        std = small.sqrt()
    elif variance == "beta":
        p_t, p_s = at_t.alpha**2 + at_t.sigma**2, at_s.alpha**2 + at_s.sigma**2
        std = torch.where(at_s.sigma > 0, at_t.sigma * (p_s / p_t * added_share(at_t, at_s)).sqrt(), 0.0)
    else:
        raise InputError(f"variance: '{variance}' is not known; choose posterior or beta")
    return Tableau(times[:-1].double(), from_x_t.diag(), from_x_0.diag(), std)
