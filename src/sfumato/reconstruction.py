"""Reconstruct samples from measurements, with a model as the prior: ``model.reconstruct(y, operator, noise=0.01)``."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import torch
from torch import Tensor

from sfumato.data import DataSpec
from sfumato.denoisers import Condition, Denoiser, ExactDenoiser, GaussianMixture, MixtureDenoiser, condition_rows
from sfumato.errors import InputError
from sfumato.generate import device_of, drawing, generate
from sfumato.numerics import random
from sfumato.numerics.integers import whole
from sfumato.reporting import Progress
from sfumato.restoration import (
    DPS,
    MMPS,
    UNKNOWN,
    Decibels,
    Measurement,
    Operator,
    Photons,
    PiGDM,
    anneal,
    closed_forms,
    likeliest,
    operator_for,
    read_noise,
)
from sfumato.sampling.methods import tableau

APPROXIMATE = {"mmps": MMPS, "pigdm": PiGDM, "dps": DPS}
METHODS = ("auto", "exact", "annealed", *APPROXIMATE)
"""The methods: closed form, for a prior that is a mixture of Gaussians; exact in the limit (``restoration.anneal``);
and the approximate ones."""

# Evaluations of the denoiser, per move or per draw; the closed form uses none.
_STEPS = {"exact": 0, "annealed": 20, "mmps": 50, "pigdm": 100, "dps": 250}
_SAMPLER = "dpm++2m-sde"
_FEWEST = 256  # particles
_ASKED, _QUICK = 8, (64, 6)  # measurements, particles and steps of each evidence that estimates noise
_LEAST, _TIMES = 0.01, 8  # the least noise that is estimated, of the readings' spread; evidences for it


@runtime_checkable  # so that the test run can check annotations
class Prior(Protocol):
    """What a reconstruction asks of a model."""

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser."""

    @property
    def spec(self) -> DataSpec:
        """The contract of the data."""

    def with_module(self, module: Any) -> "Prior":
        """The same model with another denoiser."""

    def sampling_denoiser(self) -> Denoiser:
        """The denoiser with x_0 kept within the bounds of the data."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The posterior of M measurements, in data units.

    Arguments:
        draws: equally likely samples (M, n, *shape).
        mean: posterior means (M, *shape), over all particles, or in closed form.
        std: posterior standard deviations (M, *shape).
        method: the method that drew them.
        noise: the standard deviation of the noise that was assumed or found (M, *readings).
        log_evidence: log p(y) in nats, a density in the units of the readings (M,); nan for approximate methods.
        residual: root mean square of (y - A x) / noise over readings and draws (M,); about 1 where the model explains
            the measurement.
        p_value: the probability of noise at least as large as that left by the draws (M,): small where the model cannot
            explain the measurement.
        last_size: of the annealed method, the effective size of the last weights (M,); nan for others.
        evaluations: evaluations of the denoiser per draw and measurement.
    """

    draws: Tensor
    mean: Tensor
    std: Tensor
    method: str
    noise: Tensor
    log_evidence: Tensor
    residual: Tensor
    p_value: Tensor
    last_size: Tensor
    evaluations: int

    def band(self, coverage: float = 0.9) -> tuple[Tensor, Tensor]:
        """The central interval of the draws that holds the true value with probability ``coverage``: two (M, *shape).

        Between order statistics i / (n + 1), so that a new draw falls into it that often, for n of at least 19 at 0.9.
        Raises InputError for a coverage outside (0, 1).
        """
        if not 0 < coverage < 1:
            raise InputError(f"coverage: {coverage} is no probability; give one between 0 and 1")
        n = self.draws.shape[1]
        low = min(max((1 - coverage) / 2 * (n + 1) - 1, 0.0) / max(n - 1, 1), 0.5)
        ends = torch.quantile(self.draws.double(), torch.tensor([low, 1 - low], dtype=torch.float64), dim=1)
        return ends[0], ends[1]


def reconstruct(
    self: Prior,
    y: Any,
    operator: Any,
    *,
    noise: float | Tensor | str | Decibels | Photons,
    draws: SupportsIndex = 64,
    method: str = "auto",
    steps: SupportsIndex | None = None,
    particles: SupportsIndex | None = None,
    seed: SupportsIndex = 0,
    cond: Condition | None = None,
    batch: SupportsIndex = 256,
    progress: Progress | None = None,
) -> Reconstruction:
    """Draw samples that fit the measurement ``y = operator(x) + noise z``, with this model as the prior of x.

    Measurement i depends on (seed, i) alone, up to float rounding; where the noise is estimated, on all of them.

    Arguments:
        self: the model.
        y: readings (M, *readings), or of a single measurement; any array.
        operator: what ``restoration.operator_for`` takes: a matrix, a boolean mask, a function of samples in data
            units, an ``Operator``, or one of another library.
        noise: the standard deviation of the readings' noise, in their units: one number, one per reading, or one per
            reading of each measurement. Or ``restoration.Decibels``, ``restoration.Photons``, or as text "25dB",
            "photons:GAIN:READ". "auto" is the one deviation under which the measurements are likeliest.
        draws: samples per measurement.
        method: "exact" (``restoration.closed_forms``), for a mixture alone, without its bounds and guidance; "annealed"
            (``restoration.anneal``), exact in the limit; "mmps", "pigdm" or "dps", approximate; "auto" for exact where
            a mixture was fitted, else annealed, and dps for operators that are not linear.
        steps: evaluations of the denoiser per move of the annealed method, or per draw.
        particles: of the annealed method; at least ``draws``, 256 by default.
        seed: random seed.
        cond: the condition, one row per measurement, or None.
        batch: samples evaluated at once.
        progress: called with the number of measurements that are done.

    Raises:
        InputError: readings, an operator or noise that do not fit each other or the model; an unknown method.
    """
    given = operator_for(operator, self.spec.shape)
    values = torch.as_tensor(y).double()
    values = values[None] if tuple(values.shape) == given.output_shape else values
    if cond is not None and len(cond) != len(values):
        raise InputError(f"cond: has {len(cond)} rows for {len(values)} measurements; give one row per measurement")
    chosen = _best(self, given, cond) if method == "auto" else method
    way = _Way.of(chosen, steps, particles, whole("draws", draws, 1), whole("seed", seed), whole("batch", batch, 1))
    noise = read_noise(noise) if isinstance(noise, str) else noise
    level: float | Tensor
    if noise == UNKNOWN:
        level = _estimated(self, given, values, way, cond)
    elif isinstance(noise, Decibels):
        level = noise.deviation(values)
    elif isinstance(noise, Photons):  # their number is first taken from the readings, then from what explains them
        first = _posterior(self, Measurement(given, values, noise.deviation(values)), way, cond)
        level = noise.deviation(given(first.mean.double()))
    else:
        level = noise
    return _posterior(self, Measurement(given, values, level), way, cond, progress)


@dataclass(frozen=True)
class _Way:
    """How to draw."""

    method: str
    draws: int
    steps: int
    particles: int
    seed: int
    batch: int

    @classmethod
    def of(
        cls,
        method: str,
        steps: SupportsIndex | None,
        particles: SupportsIndex | None,
        draws: int,
        seed: int,
        batch: int,
    ) -> "_Way":
        if method not in _STEPS:
            raise InputError(f"method: '{method}' is not known; choose one of {', '.join(METHODS)}")
        number = _STEPS[method] if steps is None else whole("steps", steps, 2)
        population = max(draws, _FEWEST) if particles is None else whole("particles", particles, 2)
        if method == "annealed" and population < draws:
            raise InputError(f"particles: {population} are fewer than {draws} draws; give at least as many")
        return cls(method, draws, number, population, seed, batch)


def _posterior(
    model: Prior, measured: Measurement, way: _Way, cond: Condition | None, progress: Progress | None = None
) -> Reconstruction:
    inner = measured.in_model_units(model.spec.decode_unclipped)
    keys = [random.derive(way.seed, "reconstruct", i) for i in range(len(inner))]
    if way.method == "exact":
        found = _exact(_mixture(model, cond), inner, way, keys)
    else:
        draw = _annealed if way.method == "annealed" else _approximate
        found = (
            draw(model, inner.row(i), way, key, condition_rows(cond, slice(i, i + 1))) for i, key in enumerate(keys)
        )
    parts = []
    for part in found:
        parts.append(part)
        if progress is not None:
            progress(len(parts), len(inner))
    return _joined(model.spec, inner, parts, way)


def _estimated(model: Prior, operator: Operator, y: Tensor, way: _Way, cond: Condition | None) -> float:
    """The noise under which the measurements are likeliest, by the evidence of the exact or the annealed method.

    Up to ``_ASKED`` of the measurements are asked, with few particles and the same random numbers at every noise.
    """
    chosen = torch.arange(len(y))[:: -(-len(y) // _ASKED)]
    part = Measurement(operator, y[chosen], 1.0).y  # refuses readings that are none
    rows = None if cond is None else cond.rows(chosen)
    method = "exact" if way.method == "exact" else "annealed"
    quick = replace(way, method=method, draws=2, particles=_QUICK[0], steps=_QUICK[1])
    if not operator.linear:
        raise InputError("noise: is estimated for linear operators alone; give its standard deviation")

    def log_evidence(noise: float) -> float:
        return float(_posterior(model, Measurement(operator, part, noise), quick, rows).log_evidence.sum())

    most = float((part - part.mean()).std()) if part.numel() > 1 else float(part.abs().max())
    most = most or float(part.abs().max()) or 1.0
    found = likeliest(log_evidence, most * _LEAST, most, _TIMES)
    if found < 1.5 * most * _LEAST:
        raise InputError(
            "noise: the measurements say nothing of it, for the model explains them without any; give its standard "
            "deviation, or more measurements at once"
        )
    return found


@dataclass(frozen=True, eq=False)
class _Part:
    """The draws of one measurement in model units, and what is known of them."""

    x: Tensor
    log_evidence: float
    last_size: float
    evaluations: int
    moments: tuple[Tensor, Tensor] | None = None  # mean and deviation, where they are known better than by the draws


def has_closed_form(model: Prior) -> bool:
    """Whether the model is a mixture that was fitted to its data, so that "auto" is exact for linear operators."""
    return isinstance(model.denoiser, MixtureDenoiser)


def _best(model: Prior, operator: Operator, cond: Condition | None) -> str:
    """The method that is "auto"."""
    if not operator.linear:
        return "dps"
    return "exact" if cond is None and has_closed_form(model) else "annealed"


def _mixture(model: Prior, cond: Condition | None) -> GaussianMixture:
    """The prior as a mixture of Gaussians. Raises InputError where it is none."""
    denoiser = model.denoiser
    if cond is not None or not isinstance(denoiser, ExactDenoiser | MixtureDenoiser):
        raise InputError(
            "method: exact is for a model that is a mixture of Gaussians, without a condition; choose annealed"
        )
    return denoiser.distribution


def _exact(prior: GaussianMixture, measured: Measurement, way: _Way, keys: list[int]) -> Iterator[_Part]:
    shape = measured.operator.input_shape
    generators = (torch.Generator().manual_seed(key) for key in keys)
    for found in closed_forms(prior, measured, way.draws, generators):
        moments = found.mean.reshape(shape), found.std.reshape(shape)
        yield _Part(found.draws.reshape(-1, *shape), found.log_evidence, math.nan, 0, moments)


def _annealed(model: Prior, row: Measurement, way: _Way, seed: int, cond: Condition | None) -> _Part:
    denoiser = model.sampling_denoiser()
    # An exact denoiser computes in float64 whatever the states are, and its noise may be far below float32's.
    dtype = torch.float32 if any(True for _ in denoiser.parameters()) else torch.float64
    with drawing(denoiser):
        found = anneal(denoiser, row, way.particles, way.steps, seed=seed, cond=cond, batch=way.batch, dtype=dtype)
    return _Part(found.particles.cpu(), found.log_evidence, found.last_size, found.evaluations)


def _approximate(model: Prior, row: Measurement, way: _Way, seed: int, cond: Condition | None) -> _Part:
    posterior = APPROXIMATE[way.method](model.denoiser, row).to(device_of(model.denoiser))
    denoiser = model.with_module(posterior).sampling_denoiser()
    table = tableau(denoiser.process, _SAMPLER, way.steps)
    repeated = None if cond is None else cond.rows(torch.zeros(way.draws, dtype=torch.long))
    x = generate(denoiser, table, way.draws, model.spec.model_shape, seed, cond=repeated, batch=way.batch)
    return _Part(x, math.nan, math.nan, table.evaluations)


def _joined(spec: DataSpec, measured: Measurement, parts: list[_Part], way: _Way) -> Reconstruction:
    particles = torch.stack([part.x for part in parts])  # (M, N, *)
    residuals = torch.stack([measured.row(i).residual(part.x.double()) for i, part in enumerate(parts)])
    power, readings = residuals.pow(2).sum(2), residuals.shape[2]
    x = spec.decode(particles)
    chosen = torch.arange(way.draws) * x.shape[1] // way.draws
    mean = x.double().mean(1)
    std = x.double().std(1) if x.shape[1] > 1 else torch.zeros_like(mean)
    if all(part.moments is not None for part in parts):
        means, stds = (torch.stack([part.moments[i] for part in parts if part.moments]) for i in range(2))
        mean, std = spec.decode(means), spec.decode_unclipped(stds) - spec.decode_unclipped(0 * stds)
    numbers = _columns(parts, lambda part: part.log_evidence), _columns(parts, lambda part: part.last_size)
    return Reconstruction(
        draws=x[:, chosen],
        mean=mean.to(x.dtype),
        std=std.to(x.dtype),
        method=way.method,
        noise=torch.as_tensor(measured.noise).expand(measured.y.shape),
        log_evidence=numbers[0],
        residual=(power.mean(1) / readings).sqrt(),
        p_value=torch.special.gammaincc(torch.tensor(readings / 2.0).double(), power / 2).mean(1),
        last_size=numbers[1],
        evaluations=max(part.evaluations for part in parts),
    )


def _columns(parts: list[_Part], value: Callable[[_Part], float]) -> Tensor:
    return torch.tensor([value(part) for part in parts], dtype=torch.float64)
