r"""Approximate posteriors: denoisers around a denoiser, whose x_0 takes a measurement into account.

With r = y - A x_0-hat and ``V = Cov(x_0 | x_t) = (sigma^2 / alpha) d x_0-hat / d x_t`` (Tweedie's second formula),

    x_0-hat + (sigma^2 / alpha) grad log p(y | x_t)

is the mean of x_0 given x_t and y. They differ in their approximation of p(y | x_t):

    DPS       exp(-k |r|): the residual's norm alone (Chung et al. 2023)
    PiGDM     N(y; A x_0-hat, r_t^2 A A^T + noise^2), r_t^2 = sigma^2 / (alpha^2 + sigma^2) (Song et al. 2023)
    MMPS      N(y; A x_0-hat, A V A^T + noise^2): exact where x_0 given x_t is Gaussian (Rozet et al.
              2024; TMPD, Boys et al. 2023)

All are biased where the posterior has several modes: a Gaussian centred between modes stands for them, and the weights
of modes come out wrong. ``annealing`` has no such error. Each costs one evaluation and one gradient; MMPS one more
gradient per iteration of a Krylov solver, which leaves out directions in which V of a network is negative. Sample i
depends on measurement i alone.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from sfumato.core import Level, Prediction
from sfumato.denoisers import Condition, Denoiser
from sfumato.errors import InputError
from sfumato.numerics.positive_part import solve

from .measurement import Measurement, row_norm

Product = Callable[[Tensor], Tensor]


class PosteriorDenoiser(Denoiser, ABC):
    """A denoiser given a measurement.

    Arguments:
        denoiser: the prior; differentiable in x_t.
        measurement: one measurement in model units for all samples (M = 1), or one per sample.

    Raises:
        InputError: on evaluation, another number of samples than of measurements.
    """

    def __init__(self, denoiser: Denoiser, measurement: Measurement) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.process = denoiser.process
        self.measurement = measurement
        self.operator = measurement.operator

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        if len(self.measurement) not in (1, len(x_t)):
            raise InputError(f"measurements: {len(self.measurement)} for {len(x_t)} samples; give one per sample")
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            prediction: Prediction = self.denoiser(x, t, cond)
            level = self.process.level(t, like=x_t)
            change = self.change(x, prediction.x_0, level)
        share = prediction.variance_share
        prior = Prediction(prediction.x_0.detach(), prediction.eps.detach(), None if share is None else share.detach())
        return prior.with_x_0(prior.x_0 + change.detach(), level)

    @abstractmethod
    def change(self, x_t: Tensor, x_0: Tensor, level: Level) -> Tensor:
        """What the measurement adds to ``x_0``, whose graph leads back to ``x_t``."""


class DPS(PosteriorDenoiser):
    """``grad log p(y | x_t) = -step (sqrt(m) / a) grad |r|``, with each sample's own norm; any differentiable operator.

    The paper steps by ``zeta / |r|`` times the gradient of |r|^2, whatever the noise. With m readings and a the root
    mean square of the norms of A's rows, a ``step`` of about 1 suits data of unit variance and every operator. It
    assumes that x_0 given x_t is one point; the draws are neither calibrated nor of the right spread.

    Arguments:
        denoiser: the prior.
        measurement: the measurement in model units.
        step: the size of the correction.

    References:
        Chung et al. 2023, algorithm 1.
    """

    def __init__(self, denoiser: Denoiser, measurement: Measurement, step: float = 1.0) -> None:
        super().__init__(denoiser, measurement)
        if not 0 < step < math.inf:
            raise InputError(f"step: {step} is not a size; give more than 0")
        self.size = step * math.sqrt(math.prod(self.operator.output_shape)) / row_norm(self.operator)

    def change(self, x_t: Tensor, x_0: Tensor, level: Level) -> Tensor:
        gap = (self.measurement.y.to(x_0) - self.operator(x_0)).flatten(1)
        (gradient,) = torch.autograd.grad(gap.norm(dim=1).sum(), x_t)
        return -(level.sigma**2 / level.alpha) * self.size * gradient


class _Gaussian(PosteriorDenoiser):
    """``V A^T S^-1 r`` with S the covariance of the readings given x_t, by ``numerics.positive_part``.

    Arguments:
        denoiser: the prior.
        measurement: the measurement in model units; its operator must be linear.
        tolerance: of the residual, relative to r.
        most: iterations at most.

    Raises:
        InputError: an operator that is not linear.
    """

    def __init__(self, denoiser: Denoiser, measurement: Measurement, tolerance: float = 1e-3, most: int = 50) -> None:
        super().__init__(denoiser, measurement)
        if not self.operator.linear:
            raise InputError("operator: is not linear; choose the method dps")
        self.tolerance, self.most = tolerance, most

    def change(self, x_t: Tensor, x_0: Tensor, level: Level) -> Tensor:
        def covariance(v: Tensor) -> Tensor:  # V v; the Jacobian is symmetric, for x_0-hat is a gradient
            (product,) = torch.autograd.grad(x_0, x_t, v, retain_graph=True)
            return (level.sigma**2 / level.alpha) * product

        noise = torch.as_tensor(self.measurement.noise).to(x_0)
        shape = (len(x_0), *self.operator.output_shape)

        def whitened(v: Tensor) -> Tensor:  # 1 + noise^-1 A (V or r_t^2) A^T noise^-1, on flat readings
            back = self.operator.adjoint(v.reshape(shape) / noise)
            ahead = self.operator(self.spread(back, covariance, level)) / noise
            return v + ahead.flatten(1)

        gap = self.measurement.residual(x_0.detach())
        weights = solve(whitened, gap.detach(), self.tolerance, self.most)
        return covariance(self.operator.adjoint(weights.reshape(shape) / noise))

    @abstractmethod
    def spread(self, v: Tensor, covariance: Product, level: Level) -> Tensor:
        """The covariance of x_0 given x_t that is assumed, times ``v``."""


class PiGDM(_Gaussian):
    """Assumes Cov(x_0 | x_t) = r_t^2 I, that of data of unit variance in every direction (Song et al. 2023, eq. 7)."""

    def spread(self, v: Tensor, covariance: Product, level: Level) -> Tensor:
        return level.sigma**2 / (level.alpha**2 + level.sigma**2) * v


class MMPS(_Gaussian):
    """Takes Cov(x_0 | x_t) from the denoiser's Jacobian: exact for Gaussian data (Rozet et al. 2024, algorithm 2)."""

    def spread(self, v: Tensor, covariance: Product, level: Level) -> Tensor:
        return covariance(v)
