"""Ordinary differential equations to a tolerance, each sample with steps of its own."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

MAX_STEPS = 10_000
GROWTH = 2.5  # of a step over the one before, at most: longer leaps were often refused and made again


def integrate(
    rate: Callable[[Float[Tensor, "b"], Float[Tensor, "b d"]], Float[Tensor, "b d"]],
    y: Float[Tensor, "b d"],
    start: Float[Tensor, "b"],
    end: Float[Tensor, "b"],
    tolerance: float,
) -> Float[Tensor, "b d"]:
    """``y`` carried along ``dy/dt = rate(t, y)`` from ``start`` to ``end``, up or down, by Dormand-Prince 5(4).

    ``tolerance`` is the error allowed to a step, absolute and relative, as a root mean square over a sample's numbers.
    Steps belong to each sample, so that it depends on itself alone (torchode; Lienen & Guennemann 2022); a batch takes
    as many evaluations as its hardest sample. Raises FloatingPointError where steps shrink to nothing.
    """
    import torchode

    term = torchode.ODETerm(rate)
    solver = torchode.AutoDiffAdjoint(
        torchode.Dopri5(term=term),
        torchode.IntegralController(atol=tolerance, rtol=tolerance, term=term, factor_max=GROWTH),
        max_steps=MAX_STEPS,
    )
    solution = solver.solve(torchode.InitialValueProblem(y0=y, t_start=start, t_end=end))
    if not bool((solution.status == torchode.Status.SUCCESS.value).all()):
        raise FloatingPointError(
            f"adaptive: {tolerance:g} was not reached in {MAX_STEPS:,} steps; ask for a larger tolerance"
        )
    final: Tensor = solution.ys[:, -1]
    return final
