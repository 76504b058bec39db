"""Averages of the weights over several horizons at once, and any other horizon from what was kept of them.

A power-function average of weights theta(tau), tau counted in images, is (Karras et al. 2024, "Analyzing and improving
the training dynamics of diffusion models", section 3)

    average(t) = integral_0^t p(tau; t) theta(tau) d tau,    p(tau; t) = (gamma + 1) tau^gamma / t^(gamma + 1),

a profile whose standard deviation is a fixed share of the training so far, ``width``, whatever its length:

    width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).

All profiles are powers, so that one of another width is nearly a linear combination of those that were followed and of
their earlier states: least squares on the profiles gives the coefficients, which never see a weight.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from sfumato.errors import InputError

from .shards import like, local

M = TypeVar("M", bound=nn.Module)

WIDTHS = (0.05, 0.15)  # followed in every run; with a state kept at every 1.25 times the images they span the next
CANDIDATES = (0.05, 0.07, 0.1, 0.15, 0.2)  # rebuilt within 5 % of their profile's norm
KEPT = 8  # states of the past, down to a sixth of the images seen


@dataclass(frozen=True)
class Profile:
    """The weights of an average that ended at ``images``; its ``width`` is at most 0.288, that of a plain mean."""

    images: int
    width: float

    @property
    def gamma(self) -> float:
        """The power, of at least 0: the root of the module's second formula, by bisection in log(gamma + 1)."""
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
    """The combination of ``known`` profiles nearest to ``wanted``, and its distance relative to the norm of that.

    ``min |sum_i c_i p_i - p|`` in L2 with ``sum_i c_i = 1``, so that weights which do not move stay as they are.
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
    """Averaged copies of a ``module``, one for each of ``widths``.

    After the step that brings the count of images to t, ``average <- (1 - b) average + b weights`` with
    ``1 - b = (1 - batch / t)^(gamma + 1)``: the first step forgets the initial weights altogether. Parameters only: a
    buffer is not learned, and averaging would move it.
    """

    def __init__(self, module: M, widths: Sequence[float] = WIDTHS) -> None:
        self.widths = tuple(widths)
        self.modules: list[M] = [copy.deepcopy(module).eval().requires_grad_(False) for _ in widths]
        self._powers = [Profile(1, width).gamma + 1 for width in widths]

    @cached_property
    def _averages(self) -> list[list[Tensor]]:
        """Their memory, found when it is first asked for."""
        return [[local(p.detach()) for p in average.parameters()] for average in self.modules]

    def moved(self) -> None:
        """To be told when ``modules`` were put elsewhere in memory."""
        self.__dict__.pop("_averages", None)

    @torch.no_grad()
    def update(self, parameters: Sequence[Tensor], images_seen: int, batch: int) -> None:
        """Move the averages towards the module's ``parameters``, in their order, whose step has just been made."""
        kept = 1 - min(batch / images_seen, 1.0)
        for average, power in zip(self._averages, self._powers, strict=True):
            torch._foreach_lerp_(average, [local(p.detach()) for p in parameters], 1 - kept**power)

    def state(self) -> dict[str, Tensor]:
        """Every average's parameters as "width/name": what is kept of the past, and what a checkpoint holds."""
        return {
            f"{width:g}/{name}": parameter
            for width, module in zip(self.widths, self.modules, strict=True)
            for name, parameter in module.named_parameters()
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], module: M, path: Path) -> None:
        """The inverse of ``state``, with ``module``'s buffers, which all share.

        Raises InputError that names ``path`` where the tensors are others.
        """
        own = self.state()
        for name in {**own, **state}:
            if name not in own or name not in state or own[name].shape != state[name].shape:
                raise InputError(
                    f"{path}: '{name}' does not fit; the averages are of another network than config.json's"
                )
            own[name].copy_(like(state[name], own[name]))
        for average in self.modules:
            for mine, its in zip(average.buffers(), module.buffers(), strict=True):
                mine.copy_(its)


@torch.no_grad()
def combine(
    module: nn.Module, states: Iterable[tuple[int, Mapping[str, Tensor]]], widths: Sequence[float], wanted: Profile
) -> float:
    """Fill ``module``'s parameters with the average that ``wanted`` describes, out of ``states``.

    ``states`` are (images, what ``EMA.state`` gave then) of the averages of these ``widths``. Returns how far the
    profile is from the wanted one, relative to its norm.
    """
    held = list(states)
    known = [Profile(images, width) for images, _ in held for width in widths]
    c, distance = coefficients(known, wanted)
    for name, parameter in module.named_parameters():
        tensors = [state[f"{width:g}/{name}"] for _, state in held for width in widths]
        parameter.zero_()
        for factor, tensor in zip(c, tensors, strict=True):
            parameter.add_(tensor.to(parameter), alpha=factor)
    return distance


def choose(
    module: M,
    states: Sequence[tuple[int, Mapping[str, Tensor]]],
    widths: Sequence[float],
    images: int,
    bound: Callable[[M], float],
) -> tuple[float, dict[float, float]]:
    """Fill ``module`` with the average after ``images`` whose ``bound`` is the least, of all ``CANDIDATES``.

    ``states`` and ``widths`` are those of ``combine``. Returns (its width, bounds by width); NaN is never the least.
    """
    bounds = {}
    for width in CANDIDATES:
        combine(module, states, widths, Profile(images, width))
        bounds[width] = bound(module)
    best = min(bounds, key=lambda width: math.inf if math.isnan(bounds[width]) else bounds[width])
    combine(module, states, widths, Profile(images, best))
    return best, bounds
