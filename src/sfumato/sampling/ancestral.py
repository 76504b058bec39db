"""Ancestral sampling: the reverse chain (Ho, Jain & Abbeel 2020, algorithm 2), and the variance of its steps."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import NoiseSource, Process
from sfumato.core.process import added_noise_fraction, posterior_coefficients
from sfumato.denoisers import Condition, Denoiser, check_rows
from sfumato.errors import InputError

from .grids import adjacent
from .tableau import Tableau, constant

VARIANCES = ("posterior", "beta", "learned")


def ancestral(
    process: Process,
    times: Float[Tensor, "n"],
    variance: Literal["posterior", "beta", "learned"] | Float[Tensor, "steps"] = "posterior",
) -> Tableau:
    """``x_s = E[x_s | x_t, x_0-hat] + std z`` on any decreasing ``times``, no noise on a step that ends at data.

    For data of at most unit variance, "posterior" and "beta" are the lower and the upper bound of the reverse chain's
    variance.

    Arguments:
        process: the process.
        times: N + 1 decreasing times.
        variance: "posterior" for the variance of q(x_s | x_t, x_0), exact when all data is one point; for neighbours of
            a chain it is beta-tilde. "beta" for the variance of x_s given x_t for data of unit variance,
            ``p_s sigma_t^2 c / p_t`` with ``p = alpha^2 + sigma^2``; in VP and for neighbours of a chain it is beta_t.
            "learned" for the denoiser's own, between the two on a log scale. A tensor (N,) for the ``posterior_spread``
            at ``times[:-1]``: the optimal variance is then the posterior's plus ``w^2 spread``, with w the weight of
            x_0 in the mean.

    Raises:
        InputError: another ``variance``, or a bad grid.

    References:
        Ho et al. 2020, section 3.2; Nichol & Dhariwal 2021, eq. 15; Bao et al. 2022 (Analytic-DPM), eq. 7.
    """
    at_t, at_s = adjacent(process, times)
    from_x_t, from_x_0, posterior = posterior_coefficients(at_t, at_s)
    p_t, p_s = at_t.alpha**2 + at_t.sigma**2, at_s.alpha**2 + at_s.sigma**2
    unit = torch.where(at_s.sigma > 0, at_t.sigma**2 * p_s / p_t * added_noise_fraction(at_t, at_s), 0.0)
    if isinstance(variance, Tensor):
        if variance.shape != at_t.sigma.shape or not (variance >= 0).all():
            raise InputError(
                f"variance: the spread of x_0 has shape {tuple(variance.shape)}; give one number of at least 0 for "
                f"each of the {len(at_t.sigma)} steps"
            )
        optimal = torch.where(at_s.sigma > 0, posterior + from_x_0**2 * variance.double(), 0.0)
        noise, name = constant(optimal.sqrt()), "analytic"
    elif variance == "posterior":
        noise, name = constant(posterior.sqrt()), variance
    elif variance == "beta":
        noise, name = constant(unit.sqrt()), variance
    elif variance == "learned":
        noise, name = torch.stack((posterior.sqrt(), unit.sqrt()), dim=1), variance
    else:
        raise InputError(f"variance: '{variance}' is not known; choose one of {', '.join(VARIANCES)}")
    return Tableau(times[:-1].double(), from_x_t.diag(), from_x_0.diag(), noise, f"ancestral(variance={name})")


def posterior_spread(
    denoiser: Denoiser,
    x_0: Float[Tensor, "b *s"],
    times: Float[Tensor, "steps"],
    noise: NoiseSource,
    cond: Condition | None = None,
) -> Float[Tensor, "steps"]:
    """``E |x_0 - x_0-hat|^2 / D`` at each of ``times``, over samples: a ``variance`` for ``ancestral``.

    It is estimated as ``(sigma / alpha)^2 (1 - E |eps-hat|^2 / D)``, which is exact for an exact denoiser, and kept in
    [0, (sigma / alpha)^2].

    Arguments:
        denoiser: the denoiser.
        x_0: samples (B, *) in model units.
        times: the times (N,).
        noise: draw i is used at ``times[i]``.
        cond: the condition of each sample, or None.

    Raises:
        InputError: a condition with another number of rows.

    References:
        Bao et al. 2022, eq. 8-9.
    """
    check_rows(cond, len(x_0))
    spread = []
    with torch.no_grad():
        for i, t in enumerate(times.double()):
            x_t = denoiser.process.perturb(x_0, t, noise(i, x_0))
            power = denoiser(x_t, t, cond).eps.double().pow(2).mean().cpu()
            spread.append(denoiser.process.level(t).ratio ** 2 * (1 - power).clamp(0, 1))
    return torch.stack(spread)
