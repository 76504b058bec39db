"""Remove white noise from samples, with a model as the prior: ``model.denoise(x, sigma=0.2)``."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Prediction, SeededNoise
from sfumato.data import DataSpec
from sfumato.denoisers import Condition, Denoiser, condition_rows
from sfumato.errors import InputError
from sfumato.generate import device_of, drawing
from sfumato.numerics import random
from sfumato.numerics.integers import whole
from sfumato.reporting import Progress
from sfumato.sampling import dpm_solver_pp, run
from sfumato.sampling.grids import at_logsnr, finest_logsnr, noisiest_logsnr, uniform_logsnr

_MOST = 10.0  # model units: beyond, nothing of a sample is left, and the units are wrong
_LEVELS = 48  # levels at which the likelihood of the noise is compared
_EXACT, _PROBES = 64, 8  # the trace of the Jacobian is exact up to so many numbers, else from so many random directions


@runtime_checkable  # so that the test run can check annotations
class Prior(Protocol):
    """What denoising asks of a model."""

    @property
    def name(self) -> str:
        """Its name, for messages."""

    @property
    def spec(self) -> DataSpec:
        """The contract of the data."""

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser."""

    def sampling_denoiser(self) -> Denoiser:
        """The denoiser with x_0 kept within the bounds of the data."""

    def can(self, ability: Any) -> bool:
        """Whether the model has an ability, here "noise"."""


@dataclass(frozen=True, eq=False)
class Denoised:
    """Samples given noisy ones, in data units.

    Arguments:
        mean: E[x | noisy] (M, *shape): the estimate of least mean squared error, in one evaluation.
        draws: equally likely samples (M, n, *shape), as sharp as the data; n may be 0.
        sigma: the standard deviation of the noise that was assumed, or found (M,).
    """

    mean: Tensor
    draws: Tensor
    sigma: Tensor


def denoise(
    self: Prior,
    x: Any,
    sigma: float | None = None,
    *,
    draws: SupportsIndex = 0,
    steps: SupportsIndex = 50,
    seed: SupportsIndex = 0,
    cond: Condition | None = None,
    batch: SupportsIndex = 256,
    progress: Progress | None = None,
) -> Denoised:
    """Estimate x from ``x + sigma z``, z standard normal, with this model as the prior of x.

    The noisy sample, scaled, is a state of the process at the level with ``sigma_t / alpha_t = sigma``. There the
    denoiser gives the posterior mean, and the reverse process draws from the posterior. Sample i depends on (seed, i)
    alone, up to float rounding.

    Arguments:
        self: the model.
        x: noisy samples in data units (M, *shape), or one; any array. Values may lie outside the data's bounds.
        sigma: the standard deviation of the noise in data units; None to estimate that of each sample
            (``noise_level``).
        draws: samples per noisy one.
        steps: evaluations of the network per draw.
        seed: random seed.
        cond: the condition, one row per sample, or None.
        batch: samples evaluated at once.
        progress: called with the number of noisy samples that are done.

    Raises:
        InputError: values that are not finite or do not fit the model; a sigma that is none, is far above the data, or
            is below the finest level of the model; features that have units of their own; a model of pairs.
    """
    count, number, size = whole("draws", draws, 0), whole("steps", steps, 1), whole("batch", batch, 1)
    noisy, scale = _noisy(self, x), _scale(self)
    denoiser = self.sampling_denoiser()
    finest, widest = _levels(denoiser)
    if cond is not None and len(cond) != len(noisy):
        raise InputError(f"cond: has {len(cond)} rows for {len(noisy)} samples; give one row per sample")
    if sigma is not None:
        _check(sigma, finest * scale, widest * scale, self.spec)
    means, drawn, found = [], [], []
    for i in range(len(noisy)):
        row, of_row = noisy[i : i + 1], condition_rows(cond, slice(i, i + 1))
        rho = noise_level(self.denoiser, row, cond=of_row) if sigma is None else sigma / scale
        means.append(_mean(denoiser, row, rho, of_row))
        key = random.derive(whole("seed", seed), "denoise", i)
        drawn.append(_draws(denoiser, row, rho, count, number, key, of_row, size))
        found.append(rho * scale)
        if progress is not None:
            progress(i + 1, len(noisy))
    decode = self.spec.decode
    return Denoised(decode(torch.cat(means)), decode(torch.stack(drawn)), torch.tensor(found, dtype=torch.float64))


def noise_level(denoiser: Denoiser, x: Float[Tensor, "1 *s"], *, cond: Condition | None = None) -> float:
    r"""The standard deviation of the noise in ``x`` that makes it most likely under the prior, in model units.

    With p_rho the density of data plus noise of deviation rho, and the denoiser ``x_0(x, rho)`` of Jacobian J in x,

        d log p_rho(x) / d log rho = |x - x_0|^2 / rho^2 - (D - tr J),

    by Tweedie's formulas for the score and its divergence, and the heat equation. The derivative, computed on 48 levels
    from wide to narrow, is summed; the level of the largest sum is returned. The trace is exact for at most 64 numbers,
    else estimated from 8 random directions (Hutchinson 1989).

    Arguments:
        denoiser: the prior, differentiable.
        x: one noisy sample.
        cond: its condition, or None.

    References:
        Robbins 1956; Efron 2011, eq. 2.8 (Tweedie). The maximum of the marginal likelihood is empirical Bayes.
    """
    finest, widest = _levels(denoiser)
    rho = torch.logspace(math.log10(widest), math.log10(finest), _LEVELS, dtype=torch.float64)
    with drawing(denoiser):
        slopes = torch.tensor([_slope(denoiser, x, float(each), cond) for each in rho], dtype=torch.float64)
    step = math.log(widest / finest) / (_LEVELS - 1)
    total = torch.cat((slopes.new_zeros(1), -step * (slopes[1:] + slopes[:-1]) / 2)).cumsum(0)
    best = int(total.argmax())
    if 0 < best < _LEVELS - 1:  # the derivative changes its sign next to the largest sum
        left = best if slopes[best] < 0 else best - 1
        share = float((slopes[left] / (slopes[left] - slopes[left + 1])).clamp(0, 1).nan_to_num(0.5))
        return float(rho[left]) * math.exp(-step * share)
    return float(rho[best])


def _slope(denoiser: Denoiser, x: Tensor, rho: float, cond: Condition | None) -> float:
    """``d log p_rho(x) / d log rho``."""
    state, t, alpha = _at(denoiser, x, rho)
    probes = _directions(x[0]).to(state)
    repeated = None if cond is None else cond.rows(torch.zeros(len(probes), dtype=torch.long))
    with torch.enable_grad():
        states = state.expand_as(probes).clone().requires_grad_()
        x_0 = denoiser(states, t, repeated).x_0
        (product,) = torch.autograd.grad((x_0 * probes).sum(), states)
    trace = float((product * probes).flatten(1).sum(1).mean()) * alpha  # in x, not in x_t = alpha x
    gap = float((state / alpha - x_0[:1].detach()).double().pow(2).sum())
    return gap / rho**2 - (x[0].numel() - trace)


def _directions(x: Tensor) -> Tensor:
    """Directions v whose mean of v v^T is the identity, or has it as its expectation (n, *)."""
    size = x.numel()
    if size <= _EXACT:
        return (torch.eye(size) * math.sqrt(size)).reshape(size, *x.shape)
    return torch.randint(0, 2, (_PROBES, *x.shape), generator=torch.Generator().manual_seed(0)) * 2.0 - 1


def _noisy(model: Prior, x: Any) -> Tensor:
    """The noisy samples in model units."""
    spec, values = model.spec, torch.as_tensor(x)
    values = values[None] if tuple(values.shape) == spec.shape else values
    if tuple(values.shape[1:]) != spec.shape or not len(values):
        raise InputError(f"x: shape {tuple(values.shape)} does not fit; give samples of shape {spec.shape}")
    if not values.isfinite().all():
        raise InputError("x: has values that are NaN or infinite; to fill in what is missing, use inpaint")
    return spec.encode(values.float() if values.dtype != torch.float64 else values).to(device_of(model.denoiser))


def _scale(model: Prior) -> float:
    """Data units per model unit."""
    if not model.can("noise"):
        raise InputError(f"{model.name}: was trained on pairs of noise and data, and has no posterior given noise")
    scale = model.spec.unit_scale
    if scale is None:
        raise InputError(
            f"{model.name}: its features have units of their own, so one sigma does not fit them; use reconstruct with "
            "the identity as the operator, and one noise per feature"
        )
    return scale


def _levels(denoiser: Denoiser) -> tuple[float, float]:
    """The finest and the widest noise, sigma / alpha, that the model knows and that leaves something of a sample."""
    process = denoiser.process
    finest, widest = math.exp(-finest_logsnr(process) / 2), math.exp(-noisiest_logsnr(process) / 2)
    return max(finest, 1e-4), min(widest, _MOST)


def _check(sigma: float, finest: float, widest: float, spec: DataSpec) -> None:
    if not 0 < sigma < math.inf:
        raise InputError(f"sigma: {sigma} is no standard deviation; give more than 0, in data units, or auto")
    if sigma > widest:
        values = "" if spec.bounds is None else f", whose values lie in {spec.bounds[0]:g} to {spec.bounds[1]:g}"
        raise InputError(
            f"sigma: {sigma:g} is far above the data{values}; give the standard deviation of the noise in the data's "
            f"units, at most {widest:.3g}"
        )
    if sigma < finest:
        raise InputError(f"sigma: {sigma:g} is below the finest noise that the model knows, {finest:.3g}")


def _at(denoiser: Denoiser, x: Tensor, rho: float) -> tuple[Tensor, Tensor, float]:
    """The state of noisy samples at the level of their noise, its time, and its alpha."""
    process = denoiser.process
    t = at_logsnr(process, torch.tensor([-2 * math.log(rho)], dtype=torch.float64))[0]
    alpha = float(process.level(t).alpha)
    return x * alpha, t, alpha


def _mean(denoiser: Denoiser, x: Tensor, rho: float, cond: Condition | None) -> Tensor:
    state, t, _ = _at(denoiser, x, rho)
    with drawing(denoiser):
        prediction: Prediction = denoiser(state, t, cond)
    return prediction.x_0.cpu()


def _draws(
    denoiser: Denoiser, x: Tensor, rho: float, count: int, steps: int, seed: int, cond: Condition | None, batch: int
) -> Tensor:
    """Draws of the posterior: the reverse process from the level of the noise, with all of its noise."""
    if not count:
        return torch.empty(0, *x.shape[1:])
    state, parts = _at(denoiser, x, rho)[0], []
    times = uniform_logsnr(denoiser.process, steps, noise=-2 * math.log(rho))
    table = dpm_solver_pp(denoiser.process, times, order=2 if steps > 1 else 1, eta=1.0)
    noise = SeededNoise.samples(seed, count)
    with drawing(denoiser):
        for first in range(0, count, batch):
            part = noise.rows(slice(first, first + batch))
            states = state.expand(len(part.keys), *state.shape[1:])
            rows = None if cond is None else cond.rows(torch.zeros(len(states), dtype=torch.long))
            parts.append(run(denoiser, table, states, noise=part, cond=rows).cpu())
    return torch.cat(parts)
