"""DDIM: non-Markovian steps of any stochasticity, deterministic at eta = 0 (Song, Meng & Ermon 2021)."""

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Process
from sfumato.core.process import added_share
from sfumato.errors import InputError

from .grids import adjacent
from .tableau import Tableau


def ddim(process: Process, times: Float[Tensor, "n"], eta: float = 0.0) -> Tableau:
    """``x_s = alpha_s x_0 + sigma_s sqrt(1 - eta^2 c) eps + eta sigma_s sqrt(c) z`` on any decreasing ``times``.

    ``c = 1 - exp(logsnr_t - logsnr_s)`` and eps = (x_t - alpha_t x_0) / sigma_t (Song et al. 2021, eq. 12 and 16, where
    sigma_tau = eta sigma_s sqrt(c)). eta = 0 is first-order in the log-SNR on the probability-flow ODE; eta = 1 is
    ancestral sampling with the posterior's variance. Raises InputError for eta outside [0, 1] and for a bad grid.
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta: {eta} is not a share of noise; give 0 (deterministic) to 1 (ancestral)")
    at_t, at_s = adjacent(process, times)
    share = added_share(at_t, at_s)
    # 1 - eta^2 c, without cancellation where c is nearly 1 and eta is 1.
    kept = (1 - eta**2) + eta**2 * torch.exp(at_t.logsnr - at_s.logsnr)
    from_x_t = at_s.sigma * kept.sqrt() / at_t.sigma
    from_x_0 = at_s.alpha - at_t.alpha * from_x_t
    return Tableau(times[:-1].double(), from_x_t.diag(), from_x_0.diag(), eta * at_s.sigma * share.sqrt())
