"""Heun's method with churn: algorithm 2 of Karras et al. 2022, and without churn algorithm 1."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Process
from sfumato.errors import InputError

from .grids import check
from .tableau import Rows, Tableau


def heun(
    process: Process,
    times: Float[Tensor, "n"],
    churn: float = 0.0,
    churn_from: float = math.inf,
    churn_to: float = 0.0,
    churn_noise: float = 1.0,
) -> Tableau:
    """The trapezoidal rule for ``d(x / alpha) = eps d(rho)``, rho = sigma / alpha, of order 2.

    It takes two evaluations per step, one for the step to data. With churn, each of the N steps first raises rho by a
    factor ``1 + gamma``, ``gamma = min(churn / N, sqrt(2) - 1)``, and adds noise. The noisiest level cannot be raised
    above the end of the process.

    Arguments:
        process: the process.
        times: N + 1 decreasing times.
        churn: S_churn.
        churn_from: S_tmax, the largest rho that is raised.
        churn_to: S_tmin, the smallest rho that is raised.
        churn_noise: S_noise, the noise that is added relative to that of the level.

    Raises:
        InputError: negative settings, a bad grid, or a start at pure noise.

    References:
        Karras et al. 2022, algorithms 1 and 2.
    """
    if not (churn >= 0 and churn_noise >= 0):  # refuses nan too
        raise InputError(f"churn {churn}, churn_noise {churn_noise}: give at least 0")
    check(times)
    level = process.grid(times)
    N = len(times) - 1
    gamma = min(churn / N, math.sqrt(2) - 1)
    rows = Rows()
    for i in range(N):
        t, alpha, sigma, rho = times[i], level.alpha[i], level.sigma[i], level.ratio[i]
        if gamma > 0 and churn_to <= float(rho) <= churn_from:
            raised = torch.maximum(level.logsnr[i] - 2 * math.log1p(gamma), process.level(1.0).logsnr)
            t = process.schedule.time(raised)
            up = process.scaling.at(raised)
            std = churn_noise * up.alpha * (up.ratio**2 - rho**2).clamp(min=0).sqrt()
            rows.add(None, {len(rows): up.alpha / alpha}, std=std)
            alpha, sigma, rho = up.alpha, up.sigma, up.ratio
        x, keep = len(rows), level.alpha[i + 1] / alpha
        step = level.alpha[i + 1] * (level.ratio[i + 1] - rho)
        euler = {x: keep + step / sigma}, {x: -step * alpha / sigma}
        y = rows.add(t, *euler)
        if level.sigma[i + 1] > 0:
            at_s = step / 2 / level.sigma[i + 1]
            states: dict[int, Tensor | float] = {x: keep + step / 2 / sigma, y: at_s}
            rows.add(times[i + 1], states, {x: -step / 2 * alpha / sigma, y: -at_s * level.alpha[i + 1]})
    return rows.table(f"heun(churn={churn:g})")
