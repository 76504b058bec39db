"""Samples for a report, as many as there is time for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.allowance import Allowance
from sfumato.core import Prediction
from sfumato.generative_model import GenerativeModel
from sfumato.reporting import Progress
from sfumato.sampling_plan import SamplingPlan

FRAMES = 24
FEWEST = 4  # samples, and evaluations for each
PROBED = 2  # samples, and evaluations for each, that tell what an evaluation takes
BATCH = 256
FIRST = 0.3  # of the time, for the first batch


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The path of j samples from noise to data, in f frames, in data units.

    Arguments:
        t: the times of the frames (f,).
        logsnr: their log-SNRs (f,).
        x: the states (f, j, *shape), divided by sqrt(alpha^2 + sigma^2), not clipped.
        x_0: the estimates of x_0 (f, j, *shape).
    """

    t: Tensor
    logsnr: Tensor
    x: Tensor
    x_0: Tensor


@dataclass(frozen=True, eq=False)
class Drawn:
    """Samples of a model.

    Arguments:
        samples: (n, *shape) in data units.
        trajectory: the path of the first few; None for a model without a sampler.
        record: how they were drawn.
    """

    samples: Tensor
    trajectory: Trajectory | None
    record: Mapping[str, Any]


def draw(
    model: GenerativeModel,
    shown: int,
    wanted: int,
    extra: float,
    seed: int,
    progress: Progress,
    allowance: Allowance,
) -> Drawn:
    """Draw samples, a batch at a time. Sample i is the same however many are drawn, unless evaluations are saved.

    Arguments:
        model: the model.
        shown: samples that are drawn in any case without a limit.
        wanted: samples that are drawn if ``extra`` seconds are enough for them.
        extra: see there.
        seed: random seed.
        progress: called with evaluations, done and in all.
        allowance: if it is short, as many samples as fit are drawn, at least ``FEWEST``, by fewer evaluations if need
            be.
    """
    steps, size = _first_batch(model, shown, allowance)
    plan = model.plan(steps=steps)
    follower, each = _Follower(model, plan), plan.evaluations or 1
    in_time = allowance if allowance.limited else allowance.sooner(extra)
    parts: list[Tensor] = []
    done, total = 0, wanted
    while done < total:
        started = allowance.clock()
        parts.append(_batch(model, steps, seed, done, size, follower, partial(_of, progress, each * total)))
        done += size
        seconds = (allowance.clock() - started) / size  # of a sample
        fitting = int(min(in_time.left() / seconds, wanted)) if seconds else wanted
        total = min(wanted, done + (fitting if allowance.limited else max(fitting, shown - done)))
        size = min(BATCH, total - done)
        if fitting < 2 * size:  # another look before the time is over
            size = max(size // 2, 1)
    table = {} if plan.table is None else {"steps": len(plan.table.times), "evaluations": plan.evaluations}
    record = {**plan.record, **table}
    return Drawn(torch.cat(parts), follower.trajectory(), record)


def _of(progress: Progress, total: int, done: int) -> None:
    progress(done, total)


def _first_batch(model: GenerativeModel, shown: int, allowance: Allowance) -> tuple[int | None, int]:
    """(Evaluations, None for the model's own number; samples of the first batch)."""
    follow, plan = model.spec.layout.trajectories, model.plan()
    if not allowance.limited:
        return None, max(min(shown, BATCH), follow)
    if not model.can("sampler") or plan.table is None or plan.evaluations is None:
        return None, FEWEST
    model.sample(1, steps=PROBED)  # warms up
    started = allowance.clock()
    model.sample(PROBED, steps=PROBED)
    evaluations = FIRST * allowance.left() / max((allowance.clock() - started) / PROBED**2, 1e-9)
    if evaluations < FEWEST * plan.evaluations:
        return max(int(evaluations / FEWEST), FEWEST), FEWEST
    return None, min(follow, int(evaluations / plan.evaluations))


def _batch(
    model: GenerativeModel,
    steps: int | None,
    seed: int,
    first: int,
    size: int,
    follower: "_Follower",
    progress: Callable[[int], None],
) -> Tensor:
    """Samples ``first`` to before ``first + size``; ``progress`` is called with the evaluations since the first one."""
    each = follower.plan.evaluations or 1

    def watch(number: int, row: int, t: Tensor, x: Tensor, prediction: Prediction) -> None:
        progress(each * first + size * (row + 1))
        if first == 0:
            follower.see(row, t, x, prediction)

    watched = None if follower.plan.table is None else watch
    samples = model.sample(size, seed=seed, steps=steps, batch=size, first=first, watch=watched)
    progress(each * (first + size))
    return samples


@dataclass
class _Follower:
    """Keeps the trajectories of the first few samples of the first batch."""

    model: GenerativeModel
    plan: SamplingPlan
    followed: list[tuple[float, float, Tensor, Tensor]] = field(default_factory=list)

    @cached_property
    def _frames(self) -> set[int]:
        evaluations = self.plan.evaluations or 1
        numbers: list[int] = np.linspace(0, evaluations - 1, min(FRAMES, evaluations)).round().astype(int).tolist()
        return set(numbers)

    def see(self, row: int, t: Tensor, x: Tensor, prediction: Prediction) -> None:
        """Keep a frame, if this row is one."""
        denoiser, spec = self.model.denoiser, self.model.spec
        if denoiser is None or row not in self._frames:
            return
        level, follow = denoiser.process.level(t), spec.layout.trajectories
        scale = float(torch.hypot(level.alpha, level.sigma))
        state = spec.decode_unclipped(x[:follow].cpu() / scale)  # clipping would remove the noise
        self.followed.append((float(t), float(level.logsnr), state, spec.decode(prediction.x_0[:follow].cpu())))

    def trajectory(self) -> Trajectory | None:
        """What was kept; None for a model without a table."""
        if not self.followed:
            return None
        times, logsnrs, states, estimates = zip(*self.followed, strict=True)
        return Trajectory(torch.tensor(times), torch.tensor(logsnrs), torch.stack(states), torch.stack(estimates))
