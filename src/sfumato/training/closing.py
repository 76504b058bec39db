"""The end of a run: of averages of the weights over several horizons, the one with the best held-out bound."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from sfumato.generative_model import GenerativeModel

from . import ema
from .engine import Engine
from .held_out import LEVELS, HeldOut

MEASURED = 2 * LEVELS  # evaluations of a measurement, per sample
CHOSEN = LEVELS * len(ema.CANDIDATES)  # evaluations of the choice of an average, per sample
FEWEST = 2  # samples that a choice is made by


@dataclass(frozen=True)
class Choice:
    """The average that was chosen.

    Arguments:
        model: with the averaged weights, in memory of its own.
        width: of the average's profile.
        bounds: held-out bounds by width.
        samples: held-out samples that the bounds are means over.
    """

    model: GenerativeModel
    width: float
    bounds: Mapping[float, float]
    samples: int


class TimeIsOver(Exception):
    """The choice of an average took longer than it may."""


def shared_out(evaluations: float, samples: int) -> tuple[int, int]:
    """How many samples the last measurement and the choice of an average take, of at most ``samples`` each.

    Arguments:
        evaluations: that there is time for. If they are not enough for both, the measurement comes first.
        samples: that both should take.

    Returns:
        The two numbers; 0 where there is no time for it.
    """
    both = int(min(samples, evaluations / (MEASURED + CHOSEN)))
    if both >= FEWEST:
        return both, both
    return int(min(samples, evaluations / MEASURED)), 0


def in_time(samples: int, evaluations: float) -> int:
    """As many of the samples as an average can be chosen by in so many evaluations; 0 if they are too few."""
    fitting = int(max(evaluations, 0.0) / CHOSEN)
    return min(samples, fitting) if fitting >= FEWEST else 0


def choose_average(engine: Engine, bound: HeldOut, samples: int, watch: Callable[[int, int], bool]) -> Choice | None:
    """Choose the average with the best ``bound``, of those in ``ema.CANDIDATES``; all processes call it.

    Arguments:
        engine: the engine.
        bound: measures one.
        samples: held-out samples to measure.
        watch: called with the averages measured and in all; true ends the choice.

    Returns:
        The choice; None if ``watch`` ended it.
    """
    state, model = engine.state.averages(), engine.state.averaged_model()
    measured = 0

    def value(module: nn.Module) -> float:
        nonlocal measured
        if watch(measured, len(ema.CANDIDATES)):
            raise TimeIsOver
        measured += 1
        return bound.value(module, samples)

    try:
        width, bounds = ema.choose(model.module, state, engine.state.ema.widths, value)
    except TimeIsOver:
        return None
    return Choice(model, width, bounds, samples)
