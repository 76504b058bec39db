"""The probability flow of a denoiser: the ODE whose marginals are those of the process (Song et al. 2021, eq. 13).

In the angle ``theta = atan(sigma / alpha)`` and the state ``y = x_t / sqrt(alpha^2 + sigma^2)`` it is

    dy / d theta = v(y, theta) = cos(theta) eps-hat - sin(theta) x_0-hat

for every process. The clock and the units drop out, and v is smooth at both ends and zero at data.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import VP, Prediction, Process
from sfumato.core.levels import DATA
from sfumato.errors import InputError

from .base import Denoiser
from .condition import Condition


class ProbabilityFlow:
    """v as a function of (theta, y) for flat states y, (B, D), in float64.

    ``evaluations`` counts the evaluations of the denoiser.

    Arguments:
        denoiser: the denoiser.
        shape: the shape of one sample, as the denoiser sees it.
        dtype: the type of samples, as the denoiser sees them.
        cond: the condition of each sample, or None.
        watch: called after each evaluation with its number, t, x_t and the prediction.

    Raises:
        FloatingPointError: an estimate is not finite; names the time.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        shape: torch.Size,
        dtype: torch.dtype,
        cond: Condition | None = None,
        watch: Callable[[int, Tensor, Tensor, Prediction], None] | None = None,
    ) -> None:
        self.denoiser = denoiser
        self.shape = shape
        self.dtype = dtype
        self.cond = cond
        self.watch = watch
        self.evaluations = 0

    def predict(self, theta: Float[Tensor, "b"], y: Float[Tensor, "b d"]) -> Prediction:
        """The prediction at (theta, y), flat and float64."""
        process = self.denoiser.process
        logsnr = -2 * torch.log(torch.tan(theta))
        t = process.schedule.time(logsnr).clamp(0, 1)
        level = process.scaling.at(logsnr)
        x = (y * torch.hypot(level.alpha, level.sigma)[:, None]).reshape(-1, *self.shape).to(self.dtype)
        prediction = self.denoiser(x, t, self.cond)
        finite = torch.isfinite(prediction.x_0).flatten(1).all(1)
        if not finite.all():
            raise FloatingPointError(f"adaptive: the estimate of x_0 at t = {float(t[~finite][0]):.6g} is not finite")
        if self.watch is not None:
            self.watch(self.evaluations, t, x, prediction)
        self.evaluations += 1
        return Prediction(prediction.x_0.flatten(1).double(), prediction.eps.flatten(1).double())

    def velocity(self, theta: Float[Tensor, "b"], y: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """dy / d theta."""
        found = self.predict(theta, y)
        return torch.cos(theta)[:, None] * found.eps - torch.sin(theta)[:, None] * found.x_0


def angle(process: Process, t: float, tolerance: float) -> Tensor:
    """theta at time ``t``, float64, of shape ().

    Where ``t`` is data itself, it is that of the finest level that matters: sigma / alpha = min(0.002,
    sqrt(tolerance)).
    """
    logsnr = process.level(t).logsnr
    if logsnr == math.inf:
        logsnr = torch.tensor(max(DATA, -math.log(tolerance)), dtype=torch.float64)
    return VP().coordinate(VP().at(logsnr))


def check_tolerance(tolerance: float) -> None:
    """Raises InputError for a tolerance outside [1e-12, 1)."""
    if not 1e-12 <= tolerance < 1:
        raise InputError(f"tolerance: {tolerance} does not suit an ODE; give 1e-12 to below 1")
