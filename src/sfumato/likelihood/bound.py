"""The negative ELBO of samples, term by term, and the times that it is a walk over."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.bounds.terms import finest_time
from sfumato.core import Chain, Process, ValueGrid
from sfumato.errors import InputError
from sfumato.numerics.integers import optional
from sfumato.reporting import Progress

from .bits import Estimate, bits_per_dim


class BatchTerms(NamedTuple):
    """The members of a ``Bound`` that are found one batch at a time."""

    steps: Tensor
    decoder: Tensor
    contributions: Tensor
    logsnr: Tensor
    errors: Tensor
    variance: Tensor


@dataclass(frozen=True, eq=False)
class Bound:
    """A negative ELBO by sample and by term, in nats.

    It is one of probabilities where the decoder has a grid, else of densities. Visit m of a sample is a step that was
    denoised. A full walk visits every step; of few visits the contributions are weighted, and add up to the steps only
    in the mean.

    Arguments:
        prior: the prior terms (B,).
        steps: the sums of all KL terms (B,).
        decoder: the decoder terms (B,).
        contributions: what each visit found of ``steps``, (B, M), from data on.
        logsnr: the log-SNR of each visit (B, M).
        errors: the mean square of x_0-hat's error at each visit, per number in model units, (B, M).
        variance: the variance (B,) of a sample's value over the levels and the noise that were drawn.
        dimensions: numbers per sample.
        evaluations: evaluations of the denoiser per sample.
        skewness: that of the mean over the levels and the noise that were drawn; 0 where it is not known.
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
    skewness: float = 0.0

    @classmethod
    def of(cls, prior: Tensor, batches: Sequence[BatchTerms], dimensions: int, evaluations: int | float) -> "Bound":
        """The bound whose terms were found in ``batches``."""
        terms = BatchTerms(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
        return cls(prior=prior, dimensions=dimensions, evaluations=evaluations, **terms._asdict())

    def shifted(self, nats: Float[Tensor, "b"]) -> "Bound":
        """The same bound with ``nats`` (B,) added to the decoder's term: a change of the data's units."""
        return replace(self, decoder=self.decoder + nats.to(self.decoder.device))

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
        return Estimate.of(self.bits, self.variance / (self.dimensions * math.log(2)) ** 2, self.skewness)

    @property
    def terms(self) -> dict[str, Estimate]:
        """The means of prior, steps and decoder in bits/dim. The method's error is known only for their sum."""
        terms = {"prior": self.prior, "steps": self.steps, "decoder": self.decoder}
        unknown = torch.full_like(self.prior, math.nan)
        return {name: Estimate.of(bits_per_dim(term, self.dimensions), unknown) for name, term in terms.items()}


class Counter:
    """Counts evaluations of batches for a progress function.

    Arguments:
        progress: called with (done, total) at each count; None for nobody.
        total: evaluations in all.
    """

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._done, self._total = 0, total

    def add(self, count: int = 1) -> None:
        """``count`` more are done."""
        self._done += count
        if self._progress is not None and count:
            self._progress(self._done, self._total)


def walk_times(
    process: Process, steps: SupportsIndex | None = None, grid: ValueGrid | None = None
) -> Float[Tensor, "n"]:
    """The times t_0 < ... < t_N = 1 of a walk.

    Arguments:
        process: the process to walk over.
        steps: N. Of a chain, N + 1 levels are picked evenly; without ``steps``, all of them. Other clocks are divided
            evenly from the finest time.
        grid: the values of the data, which decide where a clock without a finite end begins.

    Raises:
        InputError: no ``steps`` for a clock without levels; more steps than a chain has.
    """
    chain = process.schedule.steps if isinstance(process.schedule, Chain) else None
    steps = optional("steps", steps, 1)
    if chain is None:
        if steps is None:
            raise InputError("steps: this schedule has no levels of its own; give a number of steps, or use a Span")
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
            f"data: {int(bad.sum())} of {len(x_0)} samples have numbers that are NaN or infinite; the first is "
            f"sample {int(bad.int().argmax())}; remove or repair them"
        )
