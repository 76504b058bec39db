"""The tableau of a sampler, in the sense of Butcher, and the loop that runs it.

Row r evaluates the denoiser at its input state x_r, or evaluates nothing, and makes the next state

    x_{r+1} = sum_j states[r, j] x_j + sum_j estimates[r, j] x0_hat_j + noise[r] z_r,        j = 0..r.

The coefficients depend only on the levels visited: computed once in float64, they can be printed, saved, tested for
their order, and fitted to a model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import NoiseSource, Prediction
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError

Watch = Callable[[int, Tensor, Tensor, Prediction], None]
"""``(row, t, x, prediction)``: called after each evaluation, with the state that was evaluated."""


class _Row(NamedTuple):
    """One row ready to run: x_j is value 2 j, the estimate at x_j is value 2 j + 1."""

    t: Tensor | None
    terms: tuple[tuple[int, float], ...]
    noise: float
    spent: tuple[int, ...]  # values that no later row needs


@dataclass(frozen=True, eq=False)
class Tableau:
    """R rows of coefficients, float64: ``times`` (R,), nan where a row evaluates nothing; ``states`` and ``estimates``
    (R, R), lower triangular; ``noise`` (R,), standard deviations.

    Raises InputError when shapes disagree, a coefficient is not finite, a row looks ahead or uses an estimate that
    was never made, or a row has no term at all.
    """

    times: Tensor
    states: Tensor
    estimates: Tensor
    noise: Tensor

    def __post_init__(self) -> None:
        R = len(self.times)
        shapes = [tuple(part.shape) for part in (self.times, self.states, self.estimates, self.noise)]
        if R == 0 or shapes != [(R,), (R, R), (R, R), (R,)]:
            raise InputError(f"tableau: shapes {shapes} disagree; give (R,), (R, R), (R, R), (R,)")
        if not all(part.isfinite().all() for part in (self.states, self.estimates, self.noise)):
            raise InputError("tableau: a coefficient is not finite; the levels reach an end where the method has none")
        if (self.noise < 0).any():
            raise InputError("tableau: a standard deviation is negative")
        if self.states.triu(1).any() or self.estimates.triu(1).any():
            raise InputError("tableau: a row uses a state or an estimate that a later row makes")
        if (self.estimates[:, self.times.isnan()] != 0).any():
            raise InputError("tableau: a row uses the estimate of a row that evaluates nothing")
        if ((self.states == 0) & (self.estimates == 0)).all(1).any():
            raise InputError("tableau: a row makes its state from nothing")

    @property
    def evaluations(self) -> int:
        """How many times a run calls the denoiser."""
        return int((~self.times.isnan()).sum())

    @cached_property
    def _rows(self) -> tuple[_Row, ...]:
        R = len(self.times)
        interleaved = torch.stack((self.states, self.estimates), dim=2).reshape(R, 2 * R)
        terms: list[list[tuple[int, float]]] = [[] for _ in range(R)]
        last_use = [j // 2 for j in range(2 * R)]  # a value that nobody uses is spent in the row that makes it
        for r, j in interleaved.nonzero().tolist():
            terms[r].append((j, float(interleaved[r, j])))
            last_use[j] = max(last_use[j], r)
        spent: list[list[int]] = [[] for _ in range(R)]
        for j, r in enumerate(last_use):
            spent[r].append(j)
        times = self.times.double().unbind()
        noise = self.noise.tolist()
        return tuple(
            _Row(None if times[r].isnan() else times[r], tuple(terms[r]), noise[r], tuple(spent[r])) for r in range(R)
        )


def run(
    denoiser: Denoiser,
    tableau: Tableau,
    x: Float[Tensor, "b *s"],
    *,
    noise: NoiseSource | None = None,
    cond: Any = None,
    watch: Watch | None = None,
) -> Float[Tensor, "b *s"]:
    """Run ``tableau`` from the state ``x``, shape (B, *), to its last state; ``x`` itself is left as it is.

    Row r takes draw r + 1 of ``noise``. Raises InputError when the tableau adds noise and no source is given.
    """
    if noise is None and (tableau.noise != 0).any():
        raise InputError("noise: this sampler adds noise at its steps; give a source, e.g. SeededNoise.samples(0, 64)")
    values: dict[int, Tensor] = {}
    for r, (t, terms, std, spent) in enumerate(tableau._rows):
        values[2 * r] = x
        if t is not None:
            prediction = denoiser(x, t, cond)
            values[2 * r + 1] = prediction.x_0
            if watch is not None:
                watch(r, t, x, prediction)
            del prediction  # or its eps, which no row uses, would outlive the next evaluation
        first, *others = terms
        x = values[first[0]] * first[1]
        for j, coefficient in others:
            x.add_(values[j], alpha=coefficient)
        if std and noise is not None:
            x.add_(noise(r + 1, x), alpha=std)
        for j in spent:
            values.pop(j, None)
    return x
