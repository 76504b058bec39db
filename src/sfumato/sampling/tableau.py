"""The tableau of a sampler, in the sense of Butcher: a table of coefficients that ``loop.run`` runs.

Row r evaluates the denoiser at its input state x_r, or evaluates nothing, and makes the next state

    x_{r+1} = sum_j states[r, j] x_j + sum_j estimates[r, j] x0_hat_j + noise[r] z_r,        j = 0..r.

The coefficients depend only on the levels visited: computed once in float64, they can be printed, saved, tested for
their order, and fitted to a model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import InputError


class CompiledRow(NamedTuple):
    """One row ready to run: x_j is value 2 j, the estimate at x_j is value 2 j + 1."""

    t: Tensor | None
    terms: tuple[tuple[int, float], ...]
    small: float
    large: float
    spent: tuple[int, ...]  # values that no later row needs


@dataclass(frozen=True, eq=False)
class Tableau:
    """R rows of coefficients, float64.

    The two columns of ``noise`` are equal, except for a learned variance: then they are the ends ``small`` and
    ``large`` of ``std = small^(1 - v) large^v``, with v the ``variance_share`` of the row's prediction (Nichol &
    Dhariwal 2021, eq. 15).

    Arguments:
        times: the times (R,) of the evaluations; nan for a row that evaluates nothing.
        states: the coefficients (R, R) of states, lower triangular.
        estimates: the coefficients (R, R) of estimates of x_0, lower triangular.
        noise: standard deviations (R, 2).
        name: the method, for messages.
        start: the time of the state that a run starts from; nan for that of the first evaluation.

    Raises:
        InputError: shapes that disagree, a coefficient that is not finite, a negative deviation, a row that uses values
            of later rows or an estimate that was never made, a row without terms, or a row that evaluates nothing and
            has a learned variance.
    """

    times: Tensor
    states: Tensor
    estimates: Tensor
    noise: Tensor
    name: str = "tableau"
    start: float = math.nan

    def __post_init__(self) -> None:
        R = len(self.times)
        shapes = [tuple(part.shape) for part in (self.times, self.states, self.estimates, self.noise)]
        if R == 0 or shapes != [(R,), (R, R), (R, R), (R, 2)]:
            raise InputError(f"{self.name}: shapes {shapes} disagree; give (R,), (R, R), (R, R), (R, 2)")
        if not all(part.isfinite().all() for part in (self.states, self.estimates, self.noise)):
            raise InputError(
                f"{self.name}: a coefficient is not finite; the levels reach an end where the method has none: "
                "start below pure noise, or use another method"
            )
        if (self.noise < 0).any():
            raise InputError(f"{self.name}: a standard deviation is negative")
        if self.states.triu(1).any() or self.estimates.triu(1).any():
            raise InputError(f"{self.name}: a row uses a state or an estimate that a later row makes")
        idle = self.times.isnan()
        if (self.estimates[:, idle] != 0).any():
            raise InputError(f"{self.name}: a row uses the estimate of a row that evaluates nothing")
        if ((self.states == 0) & (self.estimates == 0) & (self.noise[:, :1] == 0)).all(1).any():
            raise InputError(f"{self.name}: a row makes its state from nothing")
        if (self.noise[idle, 0] != self.noise[idle, 1]).any():
            raise InputError(f"{self.name}: a row that evaluates nothing has no learned variance")
        if math.isnan(self.start) and not idle.all():
            object.__setattr__(self, "start", float(self.times[~idle][0]))

    @property
    def evaluations(self) -> int:
        """The number of evaluations of the denoiser in a run."""
        return int((~self.times.isnan()).sum())

    @property
    def stochastic(self) -> bool:
        """Whether a run adds noise."""
        return bool((self.noise != 0).any())

    def to_dict(self) -> dict[str, Any]:
        """The table as plain data without loss; None is the time of a row that evaluates nothing."""
        times = [None if t != t else t for t in self.times.tolist()]
        parts = {name: getattr(self, name).tolist() for name in ("states", "estimates", "noise")}
        return {"name": self.name, "start": self.start, "times": times, **parts}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Tableau":
        """The table that ``to_dict`` wrote. Raises InputError for anything else."""
        try:
            times = torch.tensor([math.nan if t is None else t for t in data["times"]], dtype=torch.float64)
            states, estimates, noise = (
                torch.tensor(data[name], dtype=torch.float64) for name in ("states", "estimates", "noise")
            )
            return cls(times, states, estimates, noise, str(data["name"]), float(data["start"]))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"not a tableau ({' '.join(str(error).split())})") from None

    @cached_property
    def compiled(self) -> tuple[CompiledRow, ...]:
        """The rows ready to run."""
        R = len(self.times)
        interleaved = torch.stack((self.states, self.estimates), dim=2).reshape(R, 2 * R)
        terms: list[list[tuple[int, float]]] = [[] for _ in range(R)]
        last_use = [j // 2 for j in range(2 * R)]  # a value that no row uses is spent in the row that makes it
        for r, j in interleaved.nonzero().tolist():
            terms[r].append((j, float(interleaved[r, j])))
            last_use[j] = max(last_use[j], r)
        times = self.times.double().unbind()
        spent: list[list[int]] = [[] for _ in range(R)]
        for j, r in enumerate(last_use):
            if j % 2 == 0 or not times[j // 2].isnan():  # there is no estimate where nothing is evaluated
                spent[r].append(j)
        small, large = self.noise.T.tolist()
        return tuple(
            CompiledRow(None if times[r].isnan() else times[r], tuple(terms[r]), small[r], large[r], tuple(spent[r]))
            for r in range(R)
        )


class Rows:
    """Builds a tableau row by row; state 0 is the one that a run starts from."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, Mapping[int, Tensor | float], Mapping[int, Tensor | float], float]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        t: Tensor | float | None,
        states: Mapping[int, Tensor | float],
        estimates: Mapping[int, Tensor | float] | None = None,
        std: Tensor | float = 0.0,
    ) -> int:
        """Add a row.

        Arguments:
            t: the time at which the newest state is evaluated; None to evaluate nothing.
            states: coefficients by number of the state.
            estimates: coefficients by number of the state that they are estimated at.
            std: the standard deviation of the noise.

        Returns:
            The number of the new state.
        """
        self._rows.append((math.nan if t is None else float(t), states, estimates or {}, float(std)))
        return len(self._rows)

    def table(self, name: str) -> Tableau:
        """The tableau of the rows so far."""
        R = len(self._rows)
        states, estimates = torch.zeros(2, R, R, dtype=torch.float64)
        for r, (_, from_states, from_estimates, _) in enumerate(self._rows):
            for j, value in from_states.items():
                states[r, j] = value
            for j, value in from_estimates.items():
                estimates[r, j] = value
        times, stds = (torch.tensor([row[i] for row in self._rows], dtype=torch.float64) for i in (0, 3))
        return Tableau(times, states, estimates, constant(stds), name)


def join(tableaus: Sequence[Tableau], name: str) -> Tableau:
    """One tableau that runs several in turn, each from the last state of the one before."""
    return Tableau(
        torch.cat([t.times for t in tableaus]),
        torch.block_diag(*(t.states for t in tableaus)),  # type: ignore[no-untyped-call]
        torch.block_diag(*(t.estimates for t in tableaus)),  # type: ignore[no-untyped-call]
        torch.cat([t.noise for t in tableaus]),
        name,
    )


def constant(std: Float[Tensor, "n"]) -> Float[Tensor, "n 2"]:
    """Both columns of ``Tableau.noise`` for a variance that is not learned."""
    return std[:, None].expand(-1, 2)
