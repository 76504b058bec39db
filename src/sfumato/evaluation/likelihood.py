"""The likelihood of data under a model, in the data's own units: the bound by term, and the value along the flow."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor

from sfumato.bounds import standard_decoder
from sfumato.core import Chain, Prediction, SeededNoise
from sfumato.data import DataSpec
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError
from sfumato.generative_model import GenerativeModel
from sfumato.hierarchical import MarkovianHVAE
from sfumato.likelihood import (
    Bound,
    Exact,
    Span,
    dequantised_likelihood,
    estimate,
    finest_time,
    flow_likelihood,
    walk,
    walk_times,
)
from sfumato.numerics import random
from sfumato.world import ALONE, World

PASSES = 100  # of a hierarchical VAE, unless told
EXACT_TRACE = 16  # numbers a sample, up to which a trace is taken exactly: it costs one pass backwards for each
FLOW_EVALUATIONS = 120  # that a flow may take, for a forecast of time

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """How to measure.

    ``evaluations`` of a sample for the bound, None for every level of a chain; ``steps`` for a walk of so many instead
    of the model's own; for the flow its ``tolerance``, Hutchinson's ``probes`` (None: the exact trace), and the
    ``draws`` of a dequantisation ``by`` noise or uniform.
    """

    evaluations: int | None = 100
    steps: int | None = None
    variance: float = 0.0
    tolerance: float = 1e-4
    probes: int | None = None
    draws: int = 1
    by: Literal["noise", "uniform"] = "noise"
    seed: int = 0
    batch: int = 256

    @classmethod
    def suited_to(cls, spec: DataSpec, seed: int = 0) -> "Settings":
        """The settings for data of this contract: exact traces in few dimensions, the usual variance of its steps."""
        exact = math.prod(spec.model_shape) <= EXACT_TRACE
        return cls(variance=1.0 if spec.continuous else 0.0, probes=None if exact else 2, seed=seed)


def encode(model: GenerativeModel, values: Tensor, what: str) -> Tensor:
    """``values`` in data units (n, *shape) as the model takes them, on its device.

    Raises InputError, one line that names ``what``, for another shape, for numbers that are NaN, infinite, outside the
    range that the model was trained on, or between its levels.
    """
    model.spec.check(values, what)
    return model.spec.encode(values).to(model.device)


def measure_bound(
    model: GenerativeModel, x_0: Tensor, settings: Settings, progress: Progress | None = None, world: World = ALONE
) -> Bound:
    """The bound of samples in model units, with nats in data units (of densities; probabilities have none).

    A hierarchical VAE's is the mean of as many passes as ``evaluations``; it has no levels of noise to visit.
    Over a chain's levels, over ``steps``, or in continuous time. All processes of a ``world`` are given all samples,
    and each returns all numbers. Raises InputError as ``walk`` and ``estimate`` do.
    """
    if isinstance(model.module, MarkovianHVAE):
        return _shifted(_hierarchy_bound(model.module, x_0, settings, progress, world), model.spec.log_det(x_0))
    assert model.denoiser is not None
    denoiser = shared(model.denoiser, world)
    process, decoder = denoiser.process, standard_decoder(denoiser.process, model.spec.grid)
    common: dict[str, Any] = {
        "variance": settings.variance,
        "seed": settings.seed,
        "batch": settings.batch,
        "progress": progress,
    }
    chain = isinstance(process.schedule, Chain)
    times: Tensor | Span = Span(finest_time(process, model.spec.grid))
    if chain or settings.steps is not None:
        times = walk_times(process, settings.steps, model.spec.grid)
    if isinstance(times, Tensor) and (settings.evaluations is None or len(times) <= settings.evaluations):
        draws = max(1, (settings.evaluations or 0) // (len(times) - 1))
        bound = walk(denoiser, x_0, decoder, times, draws=draws, **common)
    else:
        if settings.evaluations is None:
            raise InputError("--evaluations all: this model's levels are a continuum; give a number, or --steps")
        bound = estimate(denoiser, x_0, decoder, times, evaluations=settings.evaluations, **common)
    return _shifted(bound, model.spec.log_det(x_0))


def measure_flow(
    model: GenerativeModel, x_0: Tensor, settings: Settings, progress: Progress | None = None, world: World = ALONE
) -> Exact:
    """The value along the probability flow, of samples in model units; nats are in data units, as above."""
    common: dict[str, Any] = {
        "tolerance": settings.tolerance,
        "probes": settings.probes,
        "seed": settings.seed,
        "batch": settings.batch,
        "progress": progress,
    }
    assert model.denoiser is not None
    denoiser = shared(model.denoiser, world)
    if model.spec.grid is None:
        exact = flow_likelihood(denoiser, x_0, **common)
    else:
        exact = dequantised_likelihood(denoiser, x_0, model.spec.grid, by=settings.by, draws=settings.draws, **common)
    nats = exact.nats + model.spec.log_det(x_0).to(exact.nats.device)
    return Exact(nats, exact.variance, exact.dimensions, exact.evaluations)


class Shared(Denoiser):
    """The same beliefs, computed by all processes of a ``world``, each about its rows of the batch.

    All of them ask about the same batch at the same time, and are answered with all of it. So the levels, the noise
    and the probes of a measurement, drawn for the batch, are those of one process, and so is what a pilot learns from
    the whole set. ``cond`` must be None: it is opaque, and cannot be shared out. Gradients go back once.
    """

    def __init__(self, denoiser: Denoiser, world: World) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.process = denoiser.process
        self.world = world

    def forward(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        assert cond is None
        count = len(x_t)
        if count < self.world.size:
            return cast(Prediction, self.denoiser(x_t, t, None))
        first, last = self.world.rows(count)
        x = _Rows.apply(x_t, self.world)  # type: ignore[no-untyped-call]
        found = self.denoiser(x, t if t.ndim == 0 else t[first:last], None)
        variance = None if found.variance_share is None else self._whole(found.variance_share, count)
        return Prediction(self._whole(found.x_0, count), self._whole(found.eps, count), variance)

    def _whole(self, rows: Tensor, count: int) -> Tensor:
        return cast(Tensor, _Whole.apply(rows, count, self.world))  # type: ignore[no-untyped-call]


class _Rows(torch.autograd.Function):
    """This process's rows; backwards, those of all."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, world: World) -> Tensor:
        ctx.count, ctx.world = len(whole), world
        first, last = world.rows(len(whole))
        return whole[first:last].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.world.gather(grads[0], ctx.count).to(grads[0].device), None


class _Whole(torch.autograd.Function):
    """The rows of all processes; backwards, this one's."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, count: int, world: World) -> Tensor:
        ctx.rows = world.rows(count)
        return world.gather(rows, count).to(rows.device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        first, last = ctx.rows
        return grads[0][first:last], None, None


def shared(denoiser: Denoiser, world: World) -> Denoiser:
    """``denoiser``, shared out among the processes where there are several."""
    return denoiser if world.size == 1 else Shared(denoiser, world)


@torch.no_grad()
def _hierarchy_bound(
    hierarchy: MarkovianHVAE, x_0: Tensor, settings: Settings, progress: Progress | None = None, world: World = ALONE
) -> Bound:
    passes = settings.evaluations or PASSES
    parts = []
    for i in range(0, len(x_0), settings.batch):
        x = x_0[i : i + settings.batch]

        def part(begin: int, end: int, i: int = i, x: Tensor = x) -> Tensor:
            found = []
            for k in range(passes):
                noise = SeededNoise.samples(random.derive(settings.seed, "pass", k), end - begin, i + begin)
                terms = hierarchy.terms(x[begin:end], noise)
                found.append(torch.stack([terms.prior, terms.steps.sum(1), terms.decoder], dim=1).double())
                if progress is not None:
                    progress(i // settings.batch * passes + k + 1, -(-len(x_0) // settings.batch) * passes)
            return torch.stack(found, dim=1)

        parts.append(world.shared(len(x), part))
    each = torch.cat(parts)  # (B, passes, 3)
    prior, steps, decoder = each.mean(1).unbind(1)
    variance = each.sum(2).var(1) / passes if passes > 1 else torch.full_like(prior, math.nan)
    none = prior.new_zeros(len(prior), 0)
    return Bound(prior, steps, decoder, none, none, none, variance, x_0[0].numel(), passes)


def _shifted(bound: Bound, nats: Tensor) -> Bound:
    return Bound(**{**vars(bound), "decoder": bound.decoder + nats.to(bound.decoder.device)})


def forecast(model: GenerativeModel, x_0: Tensor, settings: Settings, flow: bool, world: World = ALONE) -> float:
    """Seconds that measuring will take: one batch denoised, and one pass backwards, are timed."""
    x = x_0[: settings.batch]
    if isinstance(model.module, MarkovianHVAE):
        started = time.perf_counter()
        _hierarchy_bound(model.module, x, replace(settings, evaluations=2), world=world)
        one = (time.perf_counter() - started) / 2
        return (settings.evaluations or PASSES) * one * -(-len(x_0) // settings.batch)
    t = torch.full((len(x),), 0.5, dtype=torch.float64, device=x.device)
    assert model.denoiser is not None
    denoiser = shared(model.denoiser, world)
    passes = []
    for backwards in (False, True):
        for _ in range(2):  # the first time is not the usual one
            started = time.perf_counter()
            y = x.clone().requires_grad_(backwards)
            with torch.set_grad_enabled(backwards):
                out = denoiser(y, t, None).x_0.sum()
                if backwards:
                    torch.autograd.grad(out, y)
            elapsed = time.perf_counter() - started
        passes.append(elapsed)
    batches = -(-len(x_0) // settings.batch)
    schedule = denoiser.process.schedule
    evaluations = settings.evaluations or (schedule.steps if isinstance(schedule, Chain) else 0)
    seconds = evaluations * passes[0]
    if flow:
        traces = settings.probes or math.prod(model.spec.model_shape)
        one = passes[0] + traces * (passes[1] - passes[0])
        seconds += (settings.draws if model.spec.grid is not None else 1) * FLOW_EVALUATIONS * one
    return seconds * batches
