"""The likelihood of data under any denoiser, by the route that suits its levels and its data."""

import math
import time
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.bounds import Decoder
from sfumato.bounds.terms import finest_time
from sfumato.core import Chain, ValueGrid
from sfumato.data import DataSpec
from sfumato.denoisers import Condition, Denoiser, condition_rows
from sfumato.errors import InputError
from sfumato.numerics.integers import whole
from sfumato.reporting import Progress

from .bound import Bound, walk_times
from .estimate import estimate
from .exact import Exact, dequantised_likelihood, flow_likelihood
from .intervals import Span
from .walk import walk

EXACT_TRACE = 16  # dimensions up to which a trace is exact by default: it costs a backward pass for each
FLOW_EVALUATIONS = 120  # evaluations that a flow may take, for a forecast of the time


@dataclass(frozen=True)
class LikelihoodOptions:
    """How likelihoods are measured.

    Arguments:
        evaluations: evaluations per sample for the bound; None for every level of a chain.
        steps: steps of a walk, instead of the model's own levels.
        variance: variance of the reverse steps unless learned: 0 for the posterior's, 1 for beta.
        tolerance: error per step of the flow's ODE.
        probes: random directions of the flow's trace; None for the exact trace.
        draws: importance-weighted dequantisation samples per sample.
        by: the distribution that dequantises data with levels.
        seed: random seed.
        batch: samples per evaluation.

    Raises:
        InputError: a number that is not whole, or below 1.
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

    def __post_init__(self) -> None:
        for name in ("evaluations", "steps", "probes", "draws", "seed", "batch"):
            value = getattr(self, name)
            if value is not None or name in ("draws", "seed", "batch"):
                object.__setattr__(self, name, whole(name, value, None if name == "seed" else 1))

    @classmethod
    def suited_to(cls, spec: DataSpec, seed: SupportsIndex = 0) -> "LikelihoodOptions":
        """The defaults for this data: beta for densities, and an exact trace for up to 16 dimensions."""
        exact = math.prod(spec.model_shape) <= EXACT_TRACE
        return cls(variance=1.0 if spec.continuous else 0.0, probes=None if exact else 2, seed=whole("seed", seed))


def measure_bound(
    denoiser: Denoiser,
    x_0: Float[Tensor, "b *s"],
    decoder: Decoder,
    grid: ValueGrid | None,
    options: LikelihoodOptions,
    *,
    cond: Condition | None = None,
    progress: Progress | None = None,
) -> Bound:
    """The bound over a chain's levels, over ``options.steps``, or in continuous time.

    Arguments:
        denoiser: the denoiser to score.
        x_0: samples (B, *) in model units.
        decoder: the last term of the bound.
        grid: the values of data with levels, or None.
        options: how to measure.
        cond: the condition of each sample, or None.
        progress: called with evaluations of a batch.

    Returns:
        The bound in model units.

    Raises:
        InputError: as ``walk`` and ``estimate`` raise it, and for every level of a continuum.
    """
    process = denoiser.process
    common: dict[str, Any] = {
        "variance": options.variance,
        "seed": options.seed,
        "cond": cond,
        "batch": options.batch,
        "progress": progress,
    }
    times: Tensor | Span = Span(finest_time(process, grid))
    if isinstance(process.schedule, Chain) or options.steps is not None:
        times = walk_times(process, options.steps, grid)
    if isinstance(times, Tensor) and (options.evaluations is None or len(times) <= options.evaluations):
        draws = max(1, (options.evaluations or 0) // (len(times) - 1))
        return walk(denoiser, x_0, decoder, times, draws=draws, **common)
    if options.evaluations is None:
        raise InputError(
            "evaluations: the levels of this model are a continuum, which has no number of all of them "
            "(--evaluations all); give a number, or steps"
        )
    return estimate(denoiser, x_0, decoder, times, evaluations=options.evaluations, **common)


def measure_flow(
    denoiser: Denoiser,
    x_0: Float[Tensor, "b *s"],
    grid: ValueGrid | None,
    options: LikelihoodOptions,
    *,
    cond: Condition | None = None,
    progress: Progress | None = None,
) -> Exact:
    """The likelihood along the probability flow. Arguments as for ``measure_bound``.

    Raises:
        InputError: as ``flow_likelihood`` and ``dequantised_likelihood`` raise it.
    """
    common: dict[str, Any] = {
        "tolerance": options.tolerance,
        "probes": options.probes,
        "seed": options.seed,
        "cond": cond,
        "batch": options.batch,
        "progress": progress,
    }
    if grid is None:
        return flow_likelihood(denoiser, x_0, **common)
    return dequantised_likelihood(denoiser, x_0, grid, by=options.by, draws=options.draws, **common)


def forecast(
    denoiser: Denoiser,
    x_0: Float[Tensor, "b *s"],
    grid: ValueGrid | None,
    options: LikelihoodOptions,
    flow: bool,
    cond: Condition | None = None,
) -> float:
    """Seconds that the bound will take, and with ``flow`` the flow too: passes over the first batch are timed."""
    x, cond = x_0[: options.batch], condition_rows(cond, slice(options.batch))
    forward = _seconds_per_pass(denoiser, x, cond, backward=False)
    schedule = denoiser.process.schedule
    evaluations = options.evaluations or (schedule.steps if isinstance(schedule, Chain) else 0)
    seconds = evaluations * forward
    if flow:
        traces = options.probes or x_0[0].numel()
        once = forward + traces * (_seconds_per_pass(denoiser, x, cond, backward=True) - forward)
        seconds += (1 if grid is None else options.draws) * FLOW_EVALUATIONS * once
    return seconds * -(-len(x_0) // options.batch)


def _seconds_per_pass(denoiser: Denoiser, x: Tensor, cond: Condition | None, backward: bool) -> float:
    t = torch.full((len(x),), 0.5, dtype=torch.float64, device=x.device)
    elapsed = 0.0
    for _ in range(2):  # the first pass is slower than the others
        started = time.perf_counter()
        y = x.clone().requires_grad_(backward)
        with torch.set_grad_enabled(backward):
            total = denoiser(y, t, cond).x_0.sum()
            if backward:
                torch.autograd.grad(total, y)
        elapsed = time.perf_counter() - started
    return elapsed
