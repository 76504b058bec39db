"""The negative ELBO of samples, term by term, and the levels that it is a walk over."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.bounds.terms import finest_time
from sfumato.core import Chain, Process, ValueGrid
from sfumato.errors import InputError

from .bits import Estimate, bits_per_dim

Progress = Callable[[int, int], None]
"""``(done, in all)``, in evaluations of a batch."""


@dataclass(frozen=True, eq=False)
class Bound:
    """A negative ELBO by sample and by term, in nats; of probabilities where the decoder has a grid, else of densities.

    ``prior``, ``steps`` (all KL terms) and ``decoder`` have shape (B,). Visit m of a sample found the steps' part
    ``contributions[:, m]`` at ``logsnr[:, m]``, where x_0-hat was off by ``errors[:, m]``, the mean square a number in
    model units; all (B, M), from data on. A full walk visits every level; of few visits the contributions are weighted,
    and add up to the steps only in the mean. ``variance`` (B,) is what the value of a sample varies by for the levels
    and the noise that happened to be drawn; ``evaluations`` how often a sample was denoised.
    """

    prior: Tensor
    steps: Tensor
    decoder: Tensor
    contributions: Tensor
    logsnr: Tensor
    errors: Tensor
    variance: Tensor
    dimensions: int
    evaluations: int | float

    @property
    def nats(self) -> Float[Tensor, "b"]:
        """The negative ELBO of each sample."""
        return self.prior + self.steps + self.decoder

    @property
    def bits(self) -> Float[Tensor, "b"]:
        """The negative ELBO of each sample in bits/dim."""
        return bits_per_dim(self.nats, self.dimensions)

    @property
    def estimate(self) -> Estimate:
        """The mean in bits/dim, with its errors."""
        return Estimate.of(self.bits, self.variance / (self.dimensions * math.log(2)) ** 2)

    @property
    def terms(self) -> dict[str, Estimate]:
        """The means of prior, steps and decoder in bits/dim. The error of the method is known for their sum alone."""
        parts = {"prior": self.prior, "steps": self.steps, "decoder": self.decoder}
        unknown = torch.full_like(self.prior, math.nan)
        return {name: Estimate.of(bits_per_dim(part, self.dimensions), unknown) for name, part in parts.items()}


def levels(process: Process, steps: int | None = None, grid: ValueGrid | None = None) -> Float[Tensor, "n"]:
    """The times t_0 < ... < t_N = 1 of a walk: all of a chain's, or ``steps`` of even length from the finest level.

    Of a chain, ``steps`` + 1 levels are picked evenly. Raises InputError where a clock without levels is given no
    number of steps, and where a chain has not so many.
    """
    chain = process.schedule.steps if isinstance(process.schedule, Chain) else None
    if steps is not None and steps < 1:
        raise InputError(f"steps: {steps} is no walk; give at least 1")
    if chain is None:
        if steps is None:
            raise InputError("steps: this schedule has no levels of its own; say how many steps, or take a Span")
        return torch.linspace(finest_time(process, grid), 1, steps + 1, dtype=torch.float64)
    if chain == 1:
        raise InputError("steps: a chain of 1 level has no pair to walk between; use 2 or more")
    if steps is None:
        steps = chain - 1
    if steps > chain - 1:
        raise InputError(f"steps: {steps} are too many for a chain of {chain} levels; give at most {chain - 1}")
    return torch.linspace(1, chain, steps + 1, dtype=torch.float64).round() / chain


def check_data(x_0: Tensor) -> None:
    """Raises InputError for no samples and for numbers that are not finite, naming the first sample."""
    if len(x_0) == 0:
        raise InputError("data: no samples; give at least one")
    bad = ~x_0.isfinite().flatten(1).all(1)
    if bad.any():
        raise InputError(
            f"data: {int(bad.sum())} of {len(x_0)} samples have numbers that are NaN or infinite, the first of them "
            f"sample {int(bad.int().argmax())}; leave them out or mend them"
        )
