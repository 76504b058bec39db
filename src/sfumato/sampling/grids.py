"""Which levels to visit: N + 1 decreasing times, the first where sampling starts, the last where it ends.

A time of exactly 0 is data (see ``Process.grid``). N steps cost N evaluations of the denoiser.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Level, Process
from sfumato.errors import InputError


def uniform(steps: int, start: float = 1.0) -> Float[Tensor, "n"]:
    """``steps + 1`` times evenly from ``start`` in (0, 1] down to 0. Raises InputError for less than one step."""
    if steps < 1:
        raise InputError(f"steps: {steps} is not a number of steps; give at least 1")
    if not 0 < start <= 1:
        raise InputError(f"start: {start} is not a time to start from; give one in (0, 1]")
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64) * start


def chain(steps: int, length: int) -> Float[Tensor, "n"]:
    """``steps + 1`` of the times k / length of a discrete chain, as evenly as they come, from 1 down to 0.

    With ``steps = length`` every level is visited. Raises InputError when there are more steps than levels.
    """
    if not 1 <= steps <= length:
        raise InputError(f"steps: {steps} on a chain of {length} levels; give 1 to {length}")
    # In integers: a level half-way between two is rounded up, and no level can come twice.
    k = (2 * length * torch.arange(steps, -1, -1) + steps) // (2 * steps)
    return k.double() / length


def check(times: Float[Tensor, "n"]) -> None:
    """Raise InputError unless ``times`` are at least two, strictly decreasing, in [0, 1]."""
    if times.ndim != 1 or len(times) < 2:
        raise InputError(f"times: shape {tuple(times.shape)} is not a grid; give at least a start and an end")
    outside = ~((times >= 0) & (times <= 1))
    if outside.any():
        i = int(outside.int().argmax())
        raise InputError(f"times: entry {i} is {float(times[i]):.6g}; a process lives in [0, 1]")
    rising = ~(times[1:] < times[:-1])
    if rising.any():
        i = int(rising.int().argmax())
        raise InputError(
            f"times: entry {i + 1} ({float(times[i + 1]):.6g}) does not come below entry {i} ({float(times[i]):.6g}); "
            "sampling goes strictly from noise to data"
        )


def adjacent(process: Process, times: Float[Tensor, "n"]) -> tuple[Level, Level]:
    """The levels (t, s) that each step of a grid leads between, each of shape (N,)."""
    check(times)
    level = process.grid(times)
    return (
        Level(level.alpha[:-1], level.sigma[:-1], level.logsnr[:-1]),
        Level(level.alpha[1:], level.sigma[1:], level.logsnr[1:]),
    )
