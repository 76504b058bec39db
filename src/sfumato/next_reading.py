"""Which reading to take next: the one expected to take most off the error, given what was measured so far."""

from dataclasses import dataclass
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import InputError
from sfumato.model import Model
from sfumato.numerics.integers import whole
from sfumato.restoration import Matrix, dense, gain, operator_for


@dataclass(frozen=True, eq=False)
class NextReading:
    """What is known so far, and what each further reading is expected to add.

    Arguments:
        mean: of the sample, given the readings so far (*shape).
        error: the expected root mean square error of the mean.
        errors: the error expected after one more reading, for each candidate (R,); nan for those that were taken.
        order: the candidates that are left, the most useful first.
    """

    mean: Tensor
    error: float
    errors: Tensor
    order: tuple[int, ...]


def next_reading(
    model: Model,
    measured: Float[Tensor, "r"],
    noise: float,
    operator: Any = None,
    *,
    draws: SupportsIndex = 64,
    steps: SupportsIndex | None = None,
    particles: SupportsIndex | None = None,
    seed: SupportsIndex = 0,
) -> NextReading:
    """Rank the readings that are left.

    The draws of the posterior have a covariance C; a reading a with noise s takes ``|C a|^2 / (a^T C a + s^2)`` off its
    trace: exactly the expected reduction for a Gaussian posterior, and that of the best linear update for any.

    Arguments:
        model: the prior.
        measured: the candidates' readings, nan where there is none yet.
        noise: the standard deviation of a reading.
        operator: a linear operator whose readings are the candidates; None for the values of the sample themselves.
        draws: samples of the posterior.
        steps: as ``model.reconstruct`` takes them.
        particles: likewise.
        seed: random seed.

    Raises:
        InputError: readings that do not fit, all of them taken, or an operator that is not linear.
    """
    shape, count = model.spec.shape, whole("draws", draws, 8)
    size = int(torch.Size(shape).numel())
    rows = torch.eye(size, dtype=torch.float64) if operator is None else dense(operator_for(operator, shape))
    y = measured.flatten().double()
    if len(y) != len(rows):
        raise InputError(
            f"measured: {len(y)} readings, but there are {len(rows)} candidates; write nan where none is yet"
        )
    known = ~y.isnan()
    if known.all():
        raise InputError("measured: every reading is taken; add candidates")
    if known.any():
        found = model.reconstruct(
            y[known], Matrix(rows[known], shape), noise=noise, draws=count, steps=steps, particles=particles, seed=seed
        )
        x, mean = found.draws[0].flatten(1).double(), found.mean[0]
    else:
        x = model.sample(count, seed=seed).flatten(1).double()
        mean = x.mean(0).reshape(shape).float()
    covariance = x.T.cov()
    total = covariance.trace()
    errors = ((total - gain(rows, covariance, noise)).clamp(min=0) / size).sqrt()
    errors[known] = torch.nan
    order = [i for i in errors.argsort().tolist() if not known[i]]
    return NextReading(mean, float((total / size).sqrt()), errors, tuple(order))
