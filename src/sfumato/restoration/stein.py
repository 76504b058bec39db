r"""Whether draws of a posterior fit the score of their prior, which a denoiser knows, without true samples.

A denoiser knows the score of the prior with noise, ``p_rho = p * N(0, rho^2)`` (Tweedie), and not of the posterior with
noise. But draws can be given a noise of another kind: with whitened A and y (noise 1) and ``rho |A| < 1``, if x is of
``p(x) N(y; A x, 1)`` then

    z = x + rho^2 A^T (y - A x) + rho (1 - rho^2 A^T A)^(1/2) n,    n ~ N(0, 1),

is of ``p_rho(z) N(y; A z, 1 - rho^2 A A^T)``, for both are marginals of ``p(x) N(z; x, rho^2) N(y; A z, 1 - rho^2 A
A^T)``. The score of that law is that of p_rho plus the gradient of a Gaussian, and nothing is approximated. So z is
judged, by the kernel Stein discrepancy (``numerics.stein``), and errors of x that are much finer than rho are not seen.

The law is that of the model: the test says whether draws are of the posterior of this prior, and not whether the prior
is that of data.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Prediction
from sfumato.denoisers import Denoiser
from sfumato.numerics.stein import Discrepancy, stein_kernel, wild_bootstrap
from sfumato.sampling.grids import at_logsnr, finest_logsnr

from .measurement import Measurement
from .operators import Decomposition, decompose

_SHARE = 0.5  # rho, of 1 / |A| and of the spread of draws
_MOST = 0.9  # rho |A|


@dataclass(frozen=True)
class SteinTest:
    """The discrepancy of draws, and the noise rho in model units that they were given."""

    discrepancy: Discrepancy
    rho: float


def stein_test(
    denoiser: Denoiser, measurement: Measurement, draws: Float[Tensor, "m n *s"], seed: int
) -> SteinTest | None:
    """Test draws of the posteriors of several measurements as one; None where no level of the denoiser is fine enough.

    Arguments:
        denoiser: the prior, ready to be evaluated.
        measurement: M measurements in model units, all with the same noise; linear.
        draws: at least 2 for each, in model units.
        seed: random seed.
    """
    noise = torch.as_tensor(measurement.noise).expand(measurement.operator.output_shape).flatten()
    axes, x = decompose(measurement.operator, noise), draws.flatten(2).double()
    most = float(axes.s.amax())
    rho = min(_SHARE / most, _SHARE * float(x.var(1).mean().sqrt()))
    rho = max(rho, math.exp(-finest_logsnr(denoiser.process) / 2))
    if rho * most > _MOST or rho == 0:
        return None
    generator = torch.Generator().manual_seed(seed)
    kernels = []
    for here, y in zip(x, measurement.y.flatten(1) / noise, strict=True):
        c = y @ axes.u
        z = smoothed(here, axes, c, rho, torch.randn(here.shape, generator=generator, dtype=torch.float64))
        of_prior = _prior_score(denoiser, z.reshape(-1, *draws.shape[2:]), rho)
        of_reading = (axes.s / (1 - (rho * axes.s) ** 2) * (c - axes.s * (z @ axes.v))) @ axes.v.T
        kernels.append(stein_kernel(z, of_prior + of_reading))
    return SteinTest(wild_bootstrap(kernels, generator), rho)


def smoothed(x: Float[Tensor, "n d"], axes: Decomposition, c: Tensor, rho: float, noise: Tensor) -> Tensor:
    """z of draws x (see the module), made from standard normal ``noise``.

    Arguments:
        x: draws.
        axes: of the whitened operator.
        c: ``U^T y`` of the whitened readings.
        rho: the width.
        noise: of x's shape.
    """
    _, s, v = axes
    pull = rho**2 * s * (c - s * (x @ v)) + rho * ((1 - (rho * s) ** 2).sqrt() - 1) * (noise @ v)
    return x + rho * noise + pull @ v.T


def _prior_score(denoiser: Denoiser, z: Tensor, rho: float) -> Float[Tensor, "n d"]:
    """The score of ``p * N(0, rho^2)`` at z: ``-E[eps | z] / rho``."""
    process = denoiser.process
    t = at_logsnr(process, torch.tensor([-2 * math.log(rho)], dtype=torch.float64))[0]
    device = next((p.device for p in denoiser.parameters()), torch.device("cpu"))
    with torch.no_grad():
        found: Prediction = denoiser((z * process.level(t).alpha).to(device), t.expand(len(z)))
    return -found.eps.flatten(1).double().cpu() / rho
