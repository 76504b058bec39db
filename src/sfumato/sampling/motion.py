"""The probability-flow ODE as a velocity along a coordinate, which every deterministic method integrates.

Along the flow a multiple of x_t moves with a velocity ``u = a x_0-hat + b eps-hat``. The choice of the multiple, and of
the variable in which the velocity is interpolated, distinguishes the methods:

    along       what moves              velocity u              polynomial in            known as
    "x_0"       x / sigma               x_0                     log-SNR                  DPM-Solver++
    "eps"       x / alpha               eps                     log-SNR                  DPM-Solver, DEIS in log rho
    "sigma"     x / alpha               eps                     sigma / alpha            LMS, DEIS rho-AB
    "straight"  x / (alpha + sigma)     eps - x_0               sigma / (alpha + sigma)  flow matching
    "angle"     x / hypot(alpha, sigma) cos eps - sin x_0 (v)   atan(sigma / alpha)

The last three are the paths of ``core.scalings``, for every scaling of the process itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sfumato.core import VE, VP, Level, Scaling, Straight
from sfumato.errors import InputError
from sfumato.numerics.quadrature import lagrange_integrals

Along = Literal["x_0", "eps", "sigma", "straight", "angle"]

_PATHS: dict[str, Scaling] = {"sigma": VE(), "straight": Straight(), "angle": VP()}


@dataclass(frozen=True)
class Motion:
    """``x_s = keep(t, s) x_t + sum_j push(t, s, nodes)_j u_j`` between levels of a sequence, given by their indices.

    Arguments:
        level: the levels (N,) of the sequence.
        row: (a, b) of ``u = a x_0 + b eps`` at each level.
        keep: the factor of x_t.
        push: the weights (Q,) that integrate the polynomial through the velocities at ``nodes`` exactly.
    """

    level: Level
    row: tuple[Tensor, Tensor]
    keep: Callable[[int, int], Tensor]
    push: Callable[[int, int, Sequence[int]], Tensor]

    def velocity(self, j: int) -> tuple[Tensor, Tensor]:
        """u_j as (multiple of x_j, multiple of x_0-hat_j): ``eps = (x - alpha x_0) / sigma``."""
        a, b = self.row[0][j], self.row[1][j]
        return b / self.level.sigma[j], a - b * self.level.alpha[j] / self.level.sigma[j]


def motion(level: Level, along: str, eta: float = 0.0) -> Motion:
    """The motion over a sequence of levels.

    The two that interpolate in the log-SNR have order 1 on a step to data: the log-SNR is infinite there, and the
    polynomial has no integral.

    Arguments:
        level: the levels (N,).
        along: a row of the table above.
        eta: above 0, for "x_0" only: the drift of the reverse SDE whose noise has eta times the usual variance.

    Raises:
        InputError: an unknown ``along``.
    """
    if along == "x_0":
        return _data(level, eta)
    if along == "eps":
        return _noise(level)
    if along not in _PATHS:
        raise InputError(f"along: '{along}' is not known; choose one of x_0, eps, {', '.join(_PATHS)}")
    scaling = _PATHS[along]
    path = scaling.at(level.logsnr)
    unit = torch.hypot(path.alpha, path.sigma) / torch.hypot(level.alpha, level.sigma)
    tau = scaling.coordinate(path)
    return Motion(
        level,
        scaling.tangent(path),
        keep=lambda t, s: unit[t] / unit[s],
        push=lambda t, s, nodes: lagrange_integrals(tau[list(nodes)], tau[t], tau[s]) / unit[s],
    )


def _data(level: Level, eta: float) -> Motion:
    half = level.logsnr / 2  # DPM-Solver's lambda

    def keep(t: int, s: int) -> Tensor:
        if half[s].isinf():
            return torch.zeros_like(half[s])
        return level.sigma[s] / level.sigma[t] * torch.exp(eta * (half[t] - half[s]))

    def push(t: int, s: int, nodes: Sequence[int]) -> Tensor:
        if half[s].isinf():
            return level.alpha[s] * _only(nodes, t)
        # alpha_s (1 + eta) times the integral of exp((1 + eta) (lambda - lambda_s)) x_0(lambda)
        return level.alpha[s] * (1 + eta) * lagrange_integrals(half[list(nodes)], half[t], half[s], 1 + eta)

    return Motion(level, (torch.ones_like(half), torch.zeros_like(half)), keep, push)


def _noise(level: Level) -> Motion:
    half = level.logsnr / 2

    def push(t: int, s: int, nodes: Sequence[int]) -> Tensor:
        scale = level.alpha[s] / level.alpha[t] * level.sigma[t]
        if half[s].isinf():
            return -scale * _only(nodes, t)
        # -alpha_s times the integral of exp(-lambda) eps(lambda), taken backwards so that the kernel is 1 at t
        return scale * lagrange_integrals(half[list(nodes)], half[s], half[t], -1.0)

    return Motion(
        level,
        (torch.zeros_like(half), torch.ones_like(half)),
        keep=lambda t, s: level.alpha[s] / level.alpha[t],
        push=push,
    )


def _only(nodes: Sequence[int], t: int) -> Tensor:
    return torch.tensor([1.0 if node == t else 0.0 for node in nodes], dtype=torch.float64)
