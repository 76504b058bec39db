"""Averages of the weights over several horizons at once, and the combination of other horizons from them.

A power-function average of the weights theta(tau), with tau counted in images, is (Karras et al. 2024, "Analyzing and
improving the training dynamics of diffusion models", section 3)

    average(t) = integral_0^t p(tau; t) theta(tau) d tau,    p(tau; t) = (gamma + 1) tau^gamma / t^(gamma + 1).

The standard deviation of its profile is a fixed fraction of the training so far, ``width``, whatever its length:

    width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).

All profiles are powers, so the profile of another width is nearly a linear combination of the tracked ones. Least
squares on the profiles gives the coefficients, without the weights.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from sfumato.errors import InputError

from .shards import like, local

M = TypeVar("M", bound=nn.Module)

WIDTHS = (0.05, 0.1, 0.2)  # tracked in every run
CANDIDATES = (0.05, 0.07, 0.1, 0.15, 0.2)  # 0.07 within 3 % of the norm of its profile, 0.15 within 5.4 %


@dataclass(frozen=True)
class Profile:
    """The profile of an average.

    Arguments:
        images: images seen at its end.
        width: its standard deviation as a fraction of ``images``, at most 0.288, that of a plain mean.
    """

    images: int
    width: float

    @property
    def gamma(self) -> float:
        """The power, at least 0: the root of the second formula above, by bisection in log(gamma + 1)."""
        low, high = 0.0, 30.0
        for _ in range(100):
            middle = (low + high) / 2
            p = math.exp(middle)
            low, high = (middle, high) if p / ((p + 1) ** 2 * (p + 2)) > self.width**2 else (low, middle)
        return math.exp(low) - 1

    def overlap(self, other: "Profile") -> float:
        """``integral p q d tau``, per image."""
        a, b, shorter = self.gamma, other.gamma, min(self.images, other.images)
        powers = a * math.log(shorter / self.images) + b * math.log(shorter / other.images)
        return (a + 1) * (b + 1) / (a + b + 1) * math.exp(powers) * shorter / self.images / other.images


def coefficients(known: Sequence[Profile], wanted: Profile) -> tuple[list[float], float]:
    """The combination of ``known`` profiles that is nearest to ``wanted``.

    ``min |sum_i c_i p_i - p|`` in L2 with ``sum_i c_i = 1``, so that weights that do not move stay as they are.

    Returns:
        The coefficients, and the distance relative to the norm of ``wanted``.
    """
    n = len(known)
    system = torch.ones(n + 1, n + 1, dtype=torch.float64)
    system[n, n] = 0
    system[:n, :n] = torch.tensor([[p.overlap(q) for q in known] for p in known], dtype=torch.float64)
    own = wanted.overlap(wanted)
    system[:n, :n] /= own  # about one, as the multiplier's row is
    target = torch.tensor([p.overlap(wanted) / own for p in known] + [1.0], dtype=torch.float64)
    c = torch.linalg.lstsq(system, target[:, None], rcond=1e-14, driver="gelsd").solution[:n, 0]
    square = c @ system[:n, :n] @ c - 2 * c @ target[:n] + 1
    return c.tolist(), math.sqrt(max(float(square), 0.0))


class EMA(Generic[M]):
    """Averaged copies of a module.

    After the step that brings the images seen to t, ``average <- (1 - b) average + b weights`` with
    ``1 - b = (1 - batch / t)^(gamma + 1)``: the first step forgets the initial weights. Only parameters are averaged: a
    buffer is not learned, and averaging would change it.

    Arguments:
        module: the module, which is copied.
        widths: of the profiles, one average each.
    """

    def __init__(self, module: M, widths: Sequence[float] = WIDTHS) -> None:
        self.widths = tuple(widths)
        self.modules: list[M] = [copy.deepcopy(module).eval().requires_grad_(False) for _ in widths]
        self._powers = [Profile(1, width).gamma + 1 for width in widths]

    @cached_property
    def _averages(self) -> list[list[Tensor]]:
        """Their tensors, looked up once."""
        return [[local(p.detach()) for p in average.parameters()] for average in self.modules]

    def moved(self) -> None:
        """Call this after the tensors of ``modules`` have moved."""
        self.__dict__.pop("_averages", None)

    @torch.no_grad()
    def update(self, parameters: Sequence[Tensor], images_seen: int, batch: int) -> None:
        """Move the averages towards ``parameters``, those of the module after a step, in their order."""
        kept = 1 - min(batch / images_seen, 1.0)
        for average, power in zip(self._averages, self._powers, strict=True):
            torch._foreach_lerp_(average, [local(p.detach()) for p in parameters], 1 - kept**power)

    def state(self) -> dict[str, Tensor]:
        """The parameters of every average as "width/name", as checkpoints hold them."""
        return {
            f"{width:g}/{name}": parameter
            for width, module in zip(self.widths, self.modules, strict=True)
            for name, parameter in module.named_parameters()
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], module: M, path: Path) -> None:
        """Set the averages to ``state``.

        Arguments:
            state: as ``state()`` returns it.
            module: whose buffers all averages take.
            path: the file of the state, for messages.

        Raises:
            InputError: tensors of another network.
        """
        own = self.state()
        for name in {**own, **state}:
            if name not in own or name not in state or own[name].shape != state[name].shape:
                raise InputError(
                    f"{path}: '{name}' does not fit; the averages belong to another network than that of config.json"
                )
            own[name].copy_(like(state[name], own[name]))
        for average in self.modules:
            for mine, its in zip(average.buffers(), module.buffers(), strict=True):
                mine.copy_(its)


@torch.no_grad()
def combine(module: nn.Module, state: Mapping[str, Tensor], widths: Sequence[float], wanted: float) -> float:
    """Set the parameters of ``module`` to the average of the width ``wanted``.

    Arguments:
        module: the module to fill.
        state: what ``EMA.state`` returned.
        widths: of the averages in ``state``.
        wanted: the width.

    Returns:
        The distance of the profile from the wanted one, relative to its norm.
    """
    c, distance = coefficients([Profile(1, width) for width in widths], Profile(1, wanted))
    for name, parameter in module.named_parameters():
        parameter.zero_()
        for factor, width in zip(c, widths, strict=True):
            parameter.add_(state[f"{width:g}/{name}"].to(parameter), alpha=factor)
    return distance


def choose(
    module: M, state: Mapping[str, Tensor], widths: Sequence[float], bound: Callable[[M], float]
) -> tuple[float, dict[float, float]]:
    """Set ``module`` to the average with the lowest bound, of all ``CANDIDATES``.

    Arguments:
        module: the module to fill.
        state: as in ``combine``.
        widths: as in ``combine``.
        bound: the bound of a module; NaN is never the lowest.

    Returns:
        (Width of the best average, bounds by width).
    """
    bounds = {}
    for width in CANDIDATES:
        combine(module, state, widths, width)
        bounds[width] = bound(module)
    best = min(bounds, key=lambda width: math.inf if math.isnan(bounds[width]) else bounds[width])
    combine(module, state, widths, best)
    return best, bounds
