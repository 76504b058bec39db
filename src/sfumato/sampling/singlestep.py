"""Single-step exponential integrators: two or three evaluations inside each step, and no memory between steps."""

from typing import Literal, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Process
from sfumato.errors import InputError
from sfumato.numerics.integers import whole

from .grids import check
from .motion import motion
from .tableau import Rows, Tableau

_INSIDE = {2: (1 / 2,), 3: (1 / 3, 2 / 3)}  # positions of the evaluations inside a step, in half the log-SNR


def dpm_solver_singlestep(
    process: Process, times: Float[Tensor, "n"], order: SupportsIndex = 2, along: Literal["x_0", "eps"] = "x_0"
) -> Tableau:
    """DPM-Solver-2 and -3, in x_0 (DPM-Solver++ 2S, 3S) or in eps.

    Order 2 uses the estimate at the mid-point for the whole step. Order 3 has stages at 1/3 and 2/3, each with the line
    through the estimate at the start and that of the stage before.

    Arguments:
        process: the process.
        times: N + 1 decreasing times.
        order: 2 or 3, the order and the evaluations per step; the step to data takes one.
        along: "x_0" or "eps".

    Raises:
        InputError: another order or path, a bad grid, or "eps" at pure noise.

    References:
        Lu et al. 2022b, algorithm 1; Lu et al. 2022a, algorithms 1 and 2.
    """
    order = whole("order", order)
    if order not in _INSIDE:
        raise InputError(f"order: {order} is not available; give 2 or 3")
    if along not in ("x_0", "eps"):
        raise InputError(f"along: '{along}' is not available; choose x_0 or eps")
    check(times)
    rows = Rows()
    logsnr = process.grid(times).logsnr
    for i in range(len(times) - 1):
        t, s = logsnr[i], logsnr[i + 1]
        inside = () if s.isinf() else _INSIDE[order]
        stages = torch.stack([t, *(t + position * (s - t) for position in inside), s])
        level = process.scaling.at(stages)
        move = motion(level, along)
        start = len(rows)
        for k in range(1, len(stages)):
            nodes = [0] if k == 1 else [0, k - 1]
            if order == 2 and k == 2:
                weights = torch.stack((torch.zeros_like(t), move.push(0, k, [0])[0]))
            else:
                weights = move.push(0, k, nodes)
            states: dict[int, Tensor | float] = {start: move.keep(0, k)}
            estimates: dict[int, Tensor | float] = {}
            for node, weight in zip(nodes, weights, strict=True):
                from_x, from_x_0 = move.velocity(node)
                states[start + node] = states.get(start + node, 0.0) + weight * from_x
                estimates[start + node] = weight * from_x_0
            time = times[i] if k == 1 else process.schedule.time(stages[k - 1])
            rows.add(time, states, estimates)
    return rows.table(f"dpm_solver_singlestep(order={order}, along={along})")
