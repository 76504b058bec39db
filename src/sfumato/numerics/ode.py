"""Ordinary differential equations to a tolerance, with step sizes per sample."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

MAX_STEPS = 10_000
GROWTH = 2.5  # largest ratio of a step to the one before: longer steps were often rejected and repeated


def integrate(
    rate: Callable[[Float[Tensor, "b"], Float[Tensor, "b d"]], Float[Tensor, "b d"]],
    y: Float[Tensor, "b d"],
    start: Float[Tensor, "b"],
    end: Float[Tensor, "b"],
    tolerance: float,
) -> Float[Tensor, "b d"]:
    """The solution of ``dy/dt = rate(t, y)`` at ``end``, from ``y`` at ``start``, by Dormand-Prince 5(4).

    Each sample has its own steps, so it does not depend on other samples; a batch takes as many evaluations as its
    hardest sample.

    Arguments:
        rate: the right-hand side.
        y: the initial states (B, D).
        start: the initial times (B,).
        end: the final times (B,), later or earlier.
        tolerance: the error per step, absolute and relative, as a root mean square over a sample's numbers.

    Raises:
        FloatingPointError: the steps shrink to nothing.

    References:
        Lienen & Guennemann 2022 (torchode).
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
            f"adaptive: tolerance {tolerance:g} was not reached in {MAX_STEPS:,} steps; give a larger tolerance"
        )
    final: Tensor = solution.ys[:, -1]
    return final
