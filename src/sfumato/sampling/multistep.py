"""Linear multistep methods: each step reuses the estimates of the steps before it, one evaluation a step.

The velocity of a ``Motion`` is extrapolated by a polynomial through its last values (Adams-Bashforth). A corrector
repeats the last step with the velocity found at its end (Adams-Moulton). It takes no extra evaluation: it changes the
state by a combination of estimates, so it only changes the numbers of the row.

The first steps have fewer values and a lower order. For even steps in the log-SNR this does not matter, because the
velocity hardly changes at the noisy end. For even steps in the angle, or on the straight path from pure noise, the
velocity changes from the start, and every order above 2 is measured as 2, or as 3 with a corrector.

The last step to data has order 1 along "x_0" and "eps"; on levels even in sigma, every higher order is measured as 2.
Along "sigma", "straight" and "angle" the order holds up to data.
"""

from collections.abc import Callable, Sequence
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Process
from sfumato.errors import InputError
from sfumato.numerics.integers import whole

from .grids import check
from .motion import Along, Motion, motion
from .tableau import Tableau, constant


def adams(
    process: Process,
    times: Float[Tensor, "n"],
    order: SupportsIndex = 2,
    along: Along = "angle",
    corrector: bool = True,
    rebase: bool = False,
) -> Tableau:
    """Adams-Bashforth on the velocity along a path, with an Adams-Moulton corrector.

    Along "x_0" it is the exponential integrator of DPM-Solver++, along "eps" that of DPM-Solver and DEIS in log rho,
    along "sigma" LMS and DEIS rho-AB.

    Arguments:
        process: the process.
        times: N + 1 decreasing times.
        order: the order of the predictor, 1 to 4.
        along: the path; see ``motion``.
        corrector: correct each step, which raises the order by one.
        rebase: after a correction, take the velocity of the corrected state, with the estimate of x_0 as it is. A
            velocity that stays contains the eps-hat of the state before, and where a mode is narrow, eps-hat changes
            by 1 / sigma times the correction, which is then never contracted. The order is the same.

    Raises:
        InputError: another order or path, a bad grid, or a start at pure noise along "x_0", "eps" or "sigma".

    References:
        Lu et al. 2022b, eq. 9; Lu et al. 2022a, eq. 4; Zhang & Chen 2023, section 3.4.
    """
    order = whole("order", order)
    if not 1 <= order <= 4:
        raise InputError(f"order: {order} is not available; give 1 to 4")
    if rebase and corrector:
        return _rebased(process, times, order, along)
    name = f"adams(order={order}, along={along}, corrector={corrector})"
    return _multistep(process, times, name, along, order, order + 1 if corrector else 0)


def dpm_solver_pp(process: Process, times: Float[Tensor, "n"], order: SupportsIndex = 2, eta: float = 0.0) -> Tableau:
    """DPM-Solver++ multistep, and its SDE form (2M-SDE, 3M-SDE).

    It uses polynomials of x_0-hat in the log-SNR: order 2 in the paper's form, ``(1 - exp(-h)) ((1 + w) x_0 - w x_0')``
    with ``w = h / 2 h'``, order 3 with its exact weights. The noise of the SDE form is ``sigma_s sqrt(1 - exp(-2 eta
    h)) z``, with h the step in half the log-SNR. The step to data has order 1.

    Arguments:
        process: the process.
        times: N + 1 decreasing times.
        order: the order, 1 to 3.
        eta: stochasticity in [0, 1]: 0 for the ODE, 1 for the reverse SDE.

    Raises:
        InputError: another order, eta outside [0, 1], a bad grid, or a start at pure noise.

    References:
        Lu et al. 2022b, algorithm 2 and eq. 17.
    """
    order = whole("order", order)
    if not 1 <= order <= 3:
        raise InputError(f"order: {order} is not available; give 1 to 3")
    if not 0 <= eta <= 1:
        raise InputError(f"eta: {eta} is outside [0, 1]; give 0 (deterministic) to 1 (the reverse SDE)")
    name = f"dpm_solver_pp(order={order}, eta={eta:g})"
    return _multistep(process, times, name, "x_0", order, 0, predictor=_halved if order == 2 else _exact, eta=eta)


def unipc(process: Process, times: Float[Tensor, "n"], order: SupportsIndex = 3) -> Tableau:
    """UniPC in x_0 with B(h) = exp(h) - 1: UniP predicts, UniC corrects.

    The weights solve the paper's eq. 9, so they are those of the polynomial, except that with a single other node the
    paper takes 1/2. As printed there, a predictor of p nodes is corrected with p + 1. The step to data has order 1.

    Arguments:
        process: the process.
        times: N + 1 decreasing times.
        order: 2 or 3.

    Raises:
        InputError: another order, or a bad grid.

    References:
        Zhao et al. 2023, algorithms 5 and 6.
    """
    order = whole("order", order)
    if order not in (2, 3):
        raise InputError(f"order: {order} is not available; give 2 or 3")
    return _multistep(
        process, times, f"unipc(order={order})", "x_0", order, order + 1, predictor=_unip, corrector=_unic
    )


_Weights = Callable[[Motion, int, int, Sequence[int]], Tensor]


def _exact(move: Motion, t: int, s: int, nodes: Sequence[int]) -> Tensor:
    return move.push(t, s, nodes)


def _halved(move: Motion, t: int, s: int, nodes: Sequence[int]) -> Tensor:
    """Through two nodes: ``I (u_t + (h / 2) (u_t - u_before) / h')`` with I the weight of a constant."""
    whole = move.push(t, s, [t])
    half = move.level.logsnr
    if len(nodes) == 1 or half[s].isinf():
        return whole * torch.tensor([1.0] + [0.0] * (len(nodes) - 1), dtype=torch.float64)
    w = 0.5 * (half[s] - half[t]) / (half[t] - half[nodes[1]])
    return whole * torch.stack((1 + w, -w))


def _unip(move: Motion, t: int, s: int, nodes: Sequence[int]) -> Tensor:
    return _halved(move, t, s, nodes) if len(nodes) == 2 else _exact(move, t, s, nodes)


def _unic(move: Motion, t: int, s: int, nodes: Sequence[int]) -> Tensor:
    return (
        move.push(t, s, [t]) * 0.5 * torch.ones(2, dtype=torch.float64)
        if len(nodes) == 2
        else _exact(move, t, s, nodes)
    )


def _spaced_nodes(angle: Tensor, r: int, most: int) -> list[int]:
    """Up to ``most`` nodes for the step r to data, each at least a quarter of that step from the next.

    A grid ends at the finest level of its process, and the step from there to data may be many times longer than those
    before it: extrapolating a polynomial through the last velocities that far would multiply their rounding.
    """
    nodes = [r]
    for j in range(r - 1, -1, -1):
        if len(nodes) < most and angle[j] - angle[nodes[-1]] >= angle[r] / 4:
            nodes.append(j)
    return nodes


def _multistep(
    process: Process,
    times: Float[Tensor, "n"],
    name: str,
    along: str,
    predict: int,
    correct: int,
    predictor: _Weights = _exact,
    corrector: _Weights = _exact,
    eta: float = 0.0,
) -> Tableau:
    """A method that predicts with up to ``predict`` velocities and corrects with up to ``correct``; 0 for none."""
    check(times)
    level = process.grid(times)
    move = motion(level, along, eta)
    N = len(times) - 1
    angle = torch.atan(level.ratio)
    states, estimates = torch.zeros(2, N, N, dtype=torch.float64)
    predicted = torch.zeros(N, dtype=torch.float64)
    velocities = [torch.stack(part) for part in zip(*(move.velocity(j) for j in range(N)), strict=True)]
    for r in range(N):
        weights = torch.zeros(N, dtype=torch.float64)
        if correct and r > 0:
            nodes = range(r, max(r - correct, -1), -1)
            weights[list(nodes)] = corrector(move, r - 1, r, nodes)
            weights -= predicted
        to_data = bool(level.sigma[r + 1] == 0)
        past = _spaced_nodes(angle, r, predict) if to_data else list(range(r, max(r - predict, -1), -1))
        predicted = torch.zeros(N, dtype=torch.float64)
        predicted[past] = predictor(move, r, r + 1, past)
        keep = move.keep(r, r + 1)
        weights = keep * weights + predicted
        states[r], estimates[r] = weights * velocities[0], weights * velocities[1]
        states[r, r] += keep
    std = torch.zeros(N, dtype=torch.float64)
    if eta > 0:
        h = (level.logsnr[1:] - level.logsnr[:-1]) / 2
        std = level.sigma[1:] * torch.sqrt(-torch.expm1(-2 * eta * h))
    return Tableau(times[:-1].double(), states, estimates, constant(std), name)


def _rebased(process: Process, times: Float[Tensor, "n"], order: int, along: str) -> Tableau:
    """Adams with corrections that past velocities follow: each is ``a x + b x_0-hat`` with the corrected state x.

    A row uses all earlier states, so values are kept to the end of a run.
    """
    check(times)
    level = process.grid(times)
    move = motion(level, along)
    N, angle = len(times) - 1, torch.atan(level.ratio)
    # A vector has the coefficients of N states, then of N estimates.
    unit = torch.eye(2 * N, dtype=torch.float64)
    rows: list[Tensor] = []
    velocities: list[Tensor] = []
    corrected = unit[0]
    for r in range(N):
        from_x, from_x_0 = move.velocity(r)
        if r > 0:
            nodes = list(range(r, max(r - order - 1, -1), -1))
            found = [from_x * unit[r] + from_x_0 * unit[N + r], *(velocities[j] for j in nodes[1:])]
            corrected = move.keep(r - 1, r) * corrected + move.push(r - 1, r, nodes) @ torch.stack(found)
        velocities.append(from_x * corrected + from_x_0 * unit[N + r])
        past = _spaced_nodes(angle, r, order) if level.sigma[r + 1] == 0 else list(range(r, max(r - order, -1), -1))
        push = move.push(r, r + 1, past) @ torch.stack([velocities[j] for j in past])
        rows.append(move.keep(r, r + 1) * corrected + push)
    table = torch.stack(rows)
    states, estimates = table[:, :N], table[:, N:]
    name = f"adams(order={order}, along={along}, corrector=True, rebase=True)"
    return Tableau(times[:-1].double(), states, estimates, constant(torch.zeros(N, dtype=torch.float64)), name)
