r"""Draws of the posterior of a linear measurement, exact in the limit, and the evidence of the measurement.

With a width rho, split the sample from what is measured (split Gibbs, Vono et al. 2019):

    p_rho(x, z | y)  ~  p(x) N(z; x, rho^2 I) N(y; A z, noise^2),

whose marginal of x is p(x) times ``l_rho(x) = N(y; A x, noise^2 + rho^2 A A^T)``. It is the prior at rho = inf and the
posterior at rho = 0. A population of particles goes from one to the other (sequential Monte Carlo, Del Moral et al.
2006): each next rho is as small as an effective size of the weights ``l_rho'(x) / l_rho(x)`` allows; particles are
drawn again by weight; and each is then moved by one sweep of Gibbs, which leaves p_rho as it is:

    z | x, y   Gaussian, by the singular value decomposition of A
    x | z      the prior given a noisy sample: the reverse process, started at the level with sigma / alpha = rho

The prior enters through its denoiser alone: no Jacobian, no density. The product of the mean weights estimates p(y)
without bias. What remains is the error of the reverse process (``steps``) and of the number of particles.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import SeededNoise
from sfumato.denoisers import Condition, Denoiser
from sfumato.errors import InputError
from sfumato.numerics import random
from sfumato.sampling import dpm_solver_pp, run
from sfumato.sampling.grids import at_logsnr, finest_logsnr, noisiest_logsnr, uniform_logsnr
from sfumato.sampling.tableau import Tableau

from .measurement import Measurement
from .operators import decompose

_KEPT = 0.8  # effective size of the weights from one level to the next, as a fraction of the particles
_ENOUGH = 0.95  # effective size at which the last weights, to rho = 0, end the run
_BELOW = 20.0  # the reverse process ends at rho / 20, so that the noise left out is 1/400 of the variance at rho
_CLOSE = 0.02  # and at no more than this, sigma / alpha in the units of the model
_WIDEST, _NARROWEST = 1e6, 1e-8  # rho that is searched, relative to 1 model unit
_MOST_LEVELS = 2000


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of the posterior of one measurement.

    Arguments:
        particles: equally likely draws (N, *) in model units; some can be equal.
        log_evidence: log p(y) in nats, a density in the units of the readings.
        widths: the widths rho that were visited, from the widest.
        last_size: effective size of the last weights as a fraction of the particles; well below 1, the noise is finer
            than the finest level of the model, and few particles carry the posterior.
        evaluations: evaluations of the denoiser per particle.
    """

    particles: Tensor
    log_evidence: float
    widths: tuple[float, ...]
    last_size: float
    evaluations: int


def anneal(
    denoiser: Denoiser,
    measurement: Measurement,
    particles: int = 1024,
    steps: int = 40,
    *,
    seed: int = 0,
    cond: Condition | None = None,
    batch: int = 1024,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[float], None] | None = None,
) -> Posterior:
    """The posterior of a single linear measurement by an annealed population (see the module).

    Arguments:
        denoiser: the prior.
        measurement: one measurement (M = 1) in model units.
        particles: their number N; the error of the evidence falls with sqrt(N).
        steps: evaluations of the denoiser per move.
        seed: random seed.
        cond: the condition of the measured sample (one row), or None.
        batch: particles evaluated at once.
        dtype: of the states; float64 where the noise is below 1e-4 model units.
        progress: called with the fraction of the way in log rho that is done.

    Raises:
        InputError: more than one measurement, less than 2 particles or steps, an operator that is not linear or too
            large.
        FloatingPointError: an estimate is not finite.
    """
    if len(measurement) != 1 or particles < 2 or steps < 2:
        raise InputError(
            f"measurements {len(measurement)}, particles {particles}, steps {steps}: give a single measurement, and at "
            "least 2 particles and 2 steps"
        )
    likelihood = _Likelihood(measurement)
    moves = _Moves(denoiser, steps, seed, None if cond is None else cond.rows(slice(0, 1)), batch)
    with torch.no_grad():
        x = moves.prior((particles, *measurement.operator.input_shape), dtype)
        at_x, widths, log_evidence = torch.zeros(particles, dtype=torch.float64), list[float](), 0.0
        while True:
            rho, size = _next_width(likelihood, x, at_x, widths[-1] if widths else _WIDEST, moves.narrowest)
            weights = likelihood.log(x, rho) - at_x
            log_evidence += float(weights.logsumexp(0)) - math.log(particles)
            x = x[_systematic(weights, random.uniform(moves.key("resampling"), len(widths), 1)).to(x.device)]
            if rho == 0:
                break
            widths.append(rho)
            if len(widths) > _MOST_LEVELS:
                raise InputError(f"measurements: {_MOST_LEVELS} levels do not lead to the noise; choose mmps")
            x = moves.sweep(x, rho, likelihood, len(widths))
            at_x = likelihood.log(x, rho)
            if progress is not None:
                progress(math.log(widths[0] / rho) / math.log(widths[0] / min(rho, likelihood.finest)))
    return Posterior(x, log_evidence + likelihood.log_det, tuple(widths), size, moves.evaluations)


class _Likelihood:
    """``l_rho(x)`` of one measurement, and the draw of z given x, in the axes of the whitened operator."""

    def __init__(self, measurement: Measurement) -> None:
        noise = torch.as_tensor(measurement.noise).expand(measurement.operator.output_shape).flatten()
        u, s, v = decompose(measurement.operator, noise)
        y = measurement.y[0].flatten() / noise
        self.s, self.v, self.c = s, v, u.T @ y
        # What no x explains: Gaussian noise in the directions outside A's range.
        outside = float((y - u @ self.c).pow(2).sum())
        self.log_det = -float(noise.log().sum()) - 0.5 * (outside + (len(y) - len(s)) * math.log(2 * math.pi))
        self.finest = 0.3 / float(s.amax())  # rho that changes no reading by more than a third of its noise

    def log(self, x: Tensor, rho: float) -> Float[Tensor, "b"]:
        """log N(y; A x, 1 + rho^2 A A^T) within A's range, in whitened units, float64."""
        variance = 1 + (rho * self.s) ** 2
        gap = self.c - self.s * self._along(x)
        return -0.5 * (gap**2 / variance + variance.log() + math.log(2 * math.pi)).sum(1)

    def split(self, x: Tensor, rho: float, noise: Tensor) -> Tensor:
        """z given x and y, made from standard normal ``noise``: N(x, rho^2) outside of A's row space."""
        here, spread = self._along(x), self._along(noise)
        precision = self.s**2 + rho**-2
        wanted = (self.s * self.c + here * rho**-2) / precision + spread * precision**-0.5
        change = (wanted - here - rho * spread) @ self.v.T
        return x + rho * noise + change.reshape(x.shape).to(x)

    def _along(self, x: Tensor) -> Tensor:
        return x.flatten(1).double().cpu() @ self.v


class _Moves:
    """Draws of the prior, and of the prior given a noisy sample, by the reverse process in ``steps`` evaluations."""

    def __init__(self, denoiser: Denoiser, steps: int, seed: int, cond: Condition | None, batch: int) -> None:
        self.denoiser, self.steps, self.seed, self.cond, self.batch = denoiser, steps, seed, cond, batch
        self.evaluations = 0
        process = denoiser.process
        self.widest = math.exp(-noisiest_logsnr(process) / 2)
        self.finest = max(math.exp(-finest_logsnr(process) / 2), _NARROWEST / _BELOW)
        self.narrowest = 2 * self.finest
        self.device = next((p.device for p in denoiser.parameters()), torch.device("cpu"))

    def key(self, *parts: int | str) -> Tensor:
        return torch.tensor([random.derive(self.seed, "anneal", *parts)])

    def prior(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Draws of the prior."""
        std = self.denoiser.process.prior(1.0).variance.sqrt()
        noise = self._noise("prior", shape[0])
        start = std.to(dtype) * noise(0, torch.empty(shape, dtype=dtype, device=self.device))
        return self._reverse(start, self._table(self.widest), noise)

    def sweep(self, x: Tensor, rho: float, likelihood: _Likelihood, level: int) -> Tensor:
        """One sweep of Gibbs at ``rho``; none where the process has no such level."""
        if rho >= self.widest:
            return x
        noise = self._noise(level, len(x))
        z = likelihood.split(x, rho, noise(0, x))
        level_of = self.denoiser.process.scaling.at(torch.tensor(-2 * math.log(rho), dtype=torch.float64))
        return self._reverse(z * level_of.alpha.to(x.dtype), self._table(rho), noise)

    def _noise(self, tag: int | str, count: int) -> SeededNoise:
        return SeededNoise.samples(random.derive(self.seed, "anneal", tag), count)

    def _table(self, rho: float) -> Tableau:
        """The reverse process from ``rho``: second order in the log-SNR, with the noise of the exact reverse SDE."""
        process, start = self.denoiser.process, -2 * math.log(rho)
        end = -2 * math.log(max(min(_CLOSE, rho / _BELOW), self.finest))
        if not end > start:
            return dpm_solver_pp(process, at_logsnr(process, torch.tensor([start])), order=1, eta=1.0)
        return dpm_solver_pp(process, uniform_logsnr(process, self.steps, noise=start, data=end), order=2, eta=1.0)

    def _reverse(self, x: Tensor, table: Tableau, noise: SeededNoise) -> Tensor:
        self.evaluations += table.evaluations
        parts = []
        for first in range(0, len(x), self.batch):
            part = x[first : first + self.batch]
            rows = noise.rows(slice(first, first + self.batch))
            cond = None if self.cond is None else self.cond.rows(torch.zeros(len(part), dtype=torch.long))
            parts.append(run(self.denoiser, table, part, noise=rows, cond=cond))
        return torch.cat(parts)


def _next_width(likelihood: _Likelihood, x: Tensor, at_x: Tensor, rho: float, narrowest: float) -> tuple[float, float]:
    """The next width, and the effective size of the weights to it; 0 if that is enough, or no level is left."""

    def size(width: float) -> float:
        log_weights = (likelihood.log(x, width) - at_x).log_softmax(0)
        return math.exp(-float((2 * log_weights).logsumexp(0))) / len(x)

    last = size(0.0)
    if last >= _ENOUGH or rho <= narrowest:
        return 0.0, last
    low, high = math.log(narrowest), math.log(rho)
    if size(narrowest) >= _KEPT:
        return narrowest, size(narrowest)
    for _ in range(30):  # the size falls with rho
        middle = (low + high) / 2
        low, high = (low, middle) if size(math.exp(middle)) >= _KEPT else (middle, high)
    return math.exp(high), size(math.exp(high))


def _systematic(log_weights: Float[Tensor, "n"], start: Tensor) -> Tensor:
    """Indices of n particles by weight, evenly spaced from one random start (Carpenter et al. 1999)."""
    n = len(log_weights)
    positions = (start.flatten() + torch.arange(n)) / n
    return torch.searchsorted(log_weights.softmax(0).cumsum(0), positions).clamp(max=n - 1)
