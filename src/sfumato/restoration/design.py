r"""Which readings to take, before an instrument is built.

With the covariance C of the samples, readings of a set of rows A with noise s leave

    C - C A^T (A C A^T + diag(s^2))^-1 A C

of it: the error of the best linear estimate, and for Gaussian samples of any. One more reading a takes
``|C a|^2 / (a^T C a + s^2)`` off its trace, so sets are grown reading by reading, and then improved by exchanging one
reading at a time until no exchange helps (Fedorov 1972).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import InputError

_STARTS = 8  # the grown set and random ones


@dataclass(frozen=True)
class Design:
    """A set of readings.

    Arguments:
        chosen: their indices, in the order in which they help most.
        errors: the root mean square error per number of a sample after the first, the first two, ... of them.
    """

    chosen: tuple[int, ...]
    errors: tuple[float, ...]


def choose(
    candidates: Float[Tensor, "f d"], covariance: Float[Tensor, "d d"], noise: float, count: int, seed: int = 0
) -> Design:
    """The ``count`` readings that leave the least error, out of all candidates.

    Arguments:
        candidates: a row per reading.
        covariance: of the samples.
        noise: the standard deviation of a reading.
        count: how many.
        seed: of the random sets that exchanges start from, beside the grown one.

    Raises:
        InputError: fewer candidates than readings, values that are not finite, or noise that is not above 0.
    """
    rows, C = candidates.double(), covariance.double()
    if not 1 <= count <= len(rows):
        raise InputError(f"filters: {len(rows)} cannot give {count} readings; give at most as many")
    if not (rows.isfinite().all() and C.isfinite().all() and noise > 0):
        raise InputError("filters: responses and samples must be finite, and noise above 0")
    g = torch.Generator().manual_seed(seed)
    starts = [_grown(rows, C, noise, range(len(rows)), count)]
    starts += [torch.randperm(len(rows), generator=g)[:count].tolist() for _ in range(_STARTS - 1)]
    sets = [_exchanged(rows, C, noise, start) for start in starts]
    best = min(sets, key=lambda one: float(left(rows[one], C, noise).trace()))
    ordered = _grown(rows, C, noise, best, count)
    errors = [float((left(rows[ordered[: i + 1]], C, noise).trace() / len(C)).sqrt()) for i in range(count)]
    return Design(tuple(ordered), tuple(errors))


def left(rows: Float[Tensor, "k d"], covariance: Float[Tensor, "d d"], noise: float) -> Float[Tensor, "d d"]:
    """The covariance that readings leave."""
    pull = covariance @ rows.T
    spread = rows @ pull + noise**2 * torch.eye(len(rows), dtype=covariance.dtype)
    found: Tensor = covariance - pull @ torch.linalg.solve(spread, pull.T)
    return found


def gain(rows: Float[Tensor, "f d"], covariance: Float[Tensor, "d d"], noise: float) -> Float[Tensor, "f"]:
    """What each reading alone takes off the trace of the covariance."""
    pull = rows @ covariance
    return pull.pow(2).sum(1) / ((pull * rows).sum(1) + noise**2)


def _grown(rows: Tensor, C: Tensor, noise: float, allowed: "range | list[int]", count: int) -> list[int]:
    chosen: list[int] = []
    for _ in range(count):
        rest = [i for i in allowed if i not in chosen]
        now = left(rows[chosen], C, noise) if chosen else C
        chosen.append(rest[int(gain(rows[rest], now, noise).argmax())])
    return chosen


def _exchanged(rows: Tensor, C: Tensor, noise: float, start: list[int]) -> list[int]:
    chosen, changed = list(start), True
    while changed:
        changed = False
        for place in range(len(chosen)):
            others = [one for i, one in enumerate(chosen) if i != place]
            gains = gain(rows, left(rows[others], C, noise) if others else C, noise)
            gains[others] = -torch.inf
            best = int(gains.argmax())
            if gains[best] > gains[chosen[place]] * (1 + 1e-9):
                chosen[place], changed = best, True
    return chosen
