"""Draw samples in batches with any denoiser: a network, an oracle, a denoiser with guidance, a posterior.

Sample i depends on (seed, first + i) and on row i of the condition, not on its batch (up to float rounding).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from torch import Tensor, nn

from sfumato import sampling
from sfumato.core import Prediction, SeededNoise
from sfumato.core.levels import expand
from sfumato.denoisers import Condition, Denoiser, check_rows, condition_rows
from sfumato.errors import InputError
from sfumato.networks import Configurable
from sfumato.numerics.integers import whole
from sfumato.reporting import Progress
from sfumato.sampling import Tableau
from sfumato.sampling.cuda_graph import Recorded
from sfumato.world import ALONE, World

TOLERANCE = 1e-4  # of the adaptive sampler, in model units: below what 8 bits show

Watch = Callable[[int, int, Tensor, Tensor, Prediction], None]
"""``(first, row, t, x, prediction)``, after each evaluation; ``first`` is the number of the batch's first sample."""

Draw = Callable[[int, SeededNoise, Condition | None], Tensor]
"""``(first, noise, cond) -> samples``: one sample per key of ``noise``; ``first`` is the number of the first sample."""


@dataclass(frozen=True)
class Adaptive:
    """The probability-flow ODE, solved to a ``tolerance`` in as many steps as that takes (``sampling.solve``)."""

    tolerance: float = TOLERANCE


def generate(
    denoiser: Denoiser,
    method: Tableau | Adaptive,
    count: SupportsIndex,
    shape: tuple[int, ...],
    seed: SupportsIndex = 0,
    *,
    cond: Condition | None = None,
    batch: SupportsIndex = 256,
    first: SupportsIndex = 0,
    watch: Watch | None = None,
    progress: Progress | None = None,
    world: World = ALONE,
) -> Tensor:
    """Draw samples in model units: (count, *shape), float32, on the CPU.

    On a GPU, if there are several batches, the runs of a table are recorded once and replayed as CUDA graphs, unless
    they are watched or the schedule is learned.

    Arguments:
        denoiser: any denoiser; it runs on its own device, in evaluation mode, without derivatives.
        method: the table of a sampler, or ``Adaptive``.
        count: number of samples, at least 1.
        shape: shape of one sample.
        seed: random seed.
        cond: the condition, one row per sample, or None.
        batch: samples per batch.
        first: number of the first sample. Sample i is the same as in a call with ``first=0`` and a larger count.
        watch: called after each evaluation. Each process watches its own samples.
        progress: called after each batch.
        world: the processes that share the work. Each returns all samples.

    Returns:
        The samples.

    Raises:
        InputError: a count or batch below 1, a condition with another number of rows, and whatever ``sampling.run``
            and ``sampling.solve`` refuse.
        FloatingPointError: an estimate is not finite.
    """
    device = device_of(denoiser)
    start = _prior(denoiser, method.start if isinstance(method, Tableau) else 1.0)

    def run(keys: Tensor, cond: Condition | None, first: int, check: bool) -> Tensor:
        noise = SeededNoise(keys)
        x = start(noise, (len(keys), *shape), device)
        on_row = None if watch is None else _numbered(watch, first)
        if isinstance(method, Adaptive):
            return sampling.solve(denoiser, x, tolerance=method.tolerance, cond=cond, watch=on_row)
        return sampling.run(denoiser, method, x, noise=noise, cond=cond, watch=on_row, check=check)

    def at_once(first: int, noise: SeededNoise, cond: Condition | None) -> Tensor:
        return run(noise.keys, None if cond is None else cond.to(device), first, True)

    # The numbers of a learned schedule are computed at every level.
    learned = isinstance(denoiser.process.schedule, nn.Module)
    recorded = device.type == "cuda" and isinstance(method, Tableau) and watch is None and not learned
    draw = _recorded(run, device) if recorded else at_once
    with drawing(denoiser):
        return in_batches(draw, count, seed, cond=cond, batch=batch, first=first, progress=progress, world=world)


def in_batches(
    draw: Draw,
    count: SupportsIndex,
    seed: SupportsIndex,
    *,
    cond: Condition | None = None,
    batch: SupportsIndex = 256,
    first: SupportsIndex = 0,
    progress: Progress | None = None,
    world: World = ALONE,
) -> Tensor:
    """Draw ``count`` samples with ``draw``, a batch at a time, on the CPU. Arguments as for ``generate``.

    Raises:
        InputError: a count or batch below 1, or a condition with another number of rows.
    """
    total, size, start_at = whole("count", count), whole("batch", batch), whole("first", first)
    number = whole("seed", seed)
    if total < 1 or size < 1:
        raise InputError(f"count {total}, batch {size}: give at least 1")
    check_rows(cond, total)
    parts = []
    # One batch per process at a time, so that the others wait for a slow process after each batch, not after hours.
    for start in range(0, total, size * world.size):

        def rows(begin: int, end: int, start: int = start) -> Tensor:
            begin, end = start + begin, start + end
            noise = SeededNoise.samples(number, end - begin, start_at + begin)
            return draw(start_at + begin, noise, condition_rows(cond, slice(begin, end)))

        parts.append(world.shared(min(size * world.size, total - start), rows))
        if progress is not None:
            progress(min(start + size * world.size, total), total)
    return torch.cat(parts)


@contextmanager
def drawing(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for ``module``, without derivatives, with fused attention on a GPU; restored at the end."""
    # Each submodule has a mode of its own: a new wrapper is in training mode even if the module in it is not.
    modes = [(part, part.training) for part in module.modules()]
    networks = [part for part in module.modules() if isinstance(part, Configurable)]
    networks = networks if device_of(module).type == "cuda" else []
    module.eval()
    for network in networks:
        network.configure(attention="fused")
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training
        for network in networks:
            network.configure(attention="written")


def device_of(module: nn.Module) -> torch.device:
    """The device of the module's parameters, or buffers; the CPU for a module without either."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def _prior(denoiser: Denoiser, t: float) -> Callable[[SeededNoise, tuple[int, ...], torch.device], Tensor]:
    """States at time ``t``, made from draw 0 of the noise."""
    with torch.no_grad():
        std = denoiser.process.prior(t).variance.sqrt()

    def draw(noise: SeededNoise, shape: tuple[int, ...], device: torch.device) -> Tensor:
        z = noise(0, torch.empty(shape, device=device))
        return expand(std, z) * z

    return draw


def _numbered(watch: Watch, first: int) -> Callable[[int, Tensor, Tensor, Prediction], None]:
    return lambda row, t, x, prediction: watch(first, row, t, x, prediction)


def _recorded(run: Callable[[Tensor, Condition | None, int, bool], Tensor], device: torch.device) -> Draw:
    """``run`` as CUDA graphs. The condition's tensors are inputs of the graph: other batches have other rows."""
    names: tuple[str, ...] = ()

    def compute(keys: Tensor, *parts: Tensor) -> Tensor:
        cond = Condition(**dict(zip(names, parts, strict=True))) if parts else None
        return run(keys, cond, 0, not torch.cuda.is_current_stream_capturing())

    recorded = Recorded(compute)

    def draw(first: int, noise: SeededNoise, cond: Condition | None) -> Tensor:
        nonlocal names
        tensors = {} if cond is None else cond.to(device).tensors
        names = tuple(tensors)
        return recorded(noise.keys.to(device), *tensors.values())

    return draw
