"""DDIM: non-Markovian steps of any stochasticity, deterministic at eta = 0 (Song, Meng & Ermon 2021); its inversion."""

from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Process
from sfumato.core.process import added_noise_fraction
from sfumato.errors import InputError
from sfumato.numerics.integers import whole

from .grids import adjacent
from .tableau import Rows, Tableau, constant


def ddim(process: Process, times: Float[Tensor, "n"], eta: float = 0.0) -> Tableau:
    """``x_s = alpha_s x_0 + sigma_s sqrt(1 - eta^2 c) eps + eta sigma_s sqrt(c) z`` on any decreasing ``times``.

    ``c = 1 - exp(logsnr_t - logsnr_s)`` and eps = (x_t - alpha_t x_0) / sigma_t.

    Arguments:
        process: the process.
        times: N + 1 decreasing times.
        eta: stochasticity in [0, 1]. 0 is deterministic, of order 1 on the probability-flow ODE; 1 is ancestral
            sampling with the posterior's variance.

    Raises:
        InputError: eta outside [0, 1], or a bad grid.

    References:
        Song et al. 2021, eq. 12 and 16, where sigma_tau = eta sigma_s sqrt(c).
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta: {eta} is outside [0, 1]; give 0 (deterministic) to 1 (ancestral)")
    at_t, at_s = adjacent(process, times)
    fraction = added_noise_fraction(at_t, at_s)
    # 1 - eta^2 c, without cancellation where c is nearly 1 and eta is 1.
    kept = (1 - eta**2) + eta**2 * torch.exp(at_t.logsnr - at_s.logsnr)
    from_x_t = at_s.sigma * kept.sqrt() / at_t.sigma
    from_x_0 = at_s.alpha - at_t.alpha * from_x_t
    std = eta * at_s.sigma * fraction.sqrt()
    return Tableau(times[:-1].double(), from_x_t.diag(), from_x_0.diag(), constant(std), f"ddim(eta={eta:g})")


def ddim_inversion(process: Process, times: Float[Tensor, "n"], iterations: SupportsIndex = 10) -> Tableau:
    """From ``times[-1]`` back to ``times[0]``: the latent that ``ddim(process, times)`` turns into the given state.

    A DDIM step is ``x_s = (alpha_s / alpha_t) x_t + alpha_s (rho_s - rho_t) eps(x_t, t)`` with rho = sigma / alpha
    (Song et al. 2021, eq. 13). The usual inversion, with eps at x_s, is approximate. Here x_t is the fixed point of

        x_t <- (alpha_t / alpha_s) x_s + alpha_t (rho_t - rho_s) eps(x_t, t)                       rho_t rho_s <= 1
        x_t <- (sigma_t / sigma_s) x_s - (sigma_t / sigma_s) alpha_s (1 - rho_s / rho_t) x_0-hat(x_t, t)  otherwise,

    which is the same step solved for x_t with fixed eps or fixed x_0-hat. With k = alpha d x_0-hat / d x_t, an
    iteration multiplies the error by ``(1 - rho_s / rho_t) |1 - k|`` or ``(rho_t / rho_s - 1) |k|``. Where that is
    below 1, as it is for steps that are fine enough, the inversion is exact in the limit.

    Arguments:
        process: the process.
        times: the times of the sampling run, from noise to data.
        iterations: evaluations per step, at least 1.

    Raises:
        InputError: less than one iteration, or a bad grid.
    """
    iterations = whole("iterations", iterations, 1)
    at_t, at_s = adjacent(process, times)
    rows, x = Rows(), 0
    for i in reversed(range(len(times) - 1)):
        slope = 1 - at_s.ratio[i] / at_t.ratio[i]  # alpha_t (rho_t - rho_s) / sigma_t
        noisy = bool(at_t.logsnr[i] + at_s.logsnr[i] < 0)
        back = at_t.sigma[i] / at_s.sigma[i] if noisy else at_t.alpha[i] / at_s.alpha[i]
        rows.add(None, {x: back})
        for _ in range(iterations):
            now = len(rows)
            if noisy:
                rows.add(times[i], {x: back}, {now: -slope * back * at_s.alpha[i]})
            else:
                rows.add(times[i], {x: back, now: slope}, {now: -slope * at_t.alpha[i]})
        x = len(rows)
    return rows.table(f"ddim_inversion(iterations={iterations})")
