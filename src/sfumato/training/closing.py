"""The end of a run: of averages of the weights over several horizons, the one with the best held-out bound."""

from collections.abc import Mapping
from dataclasses import dataclass

from sfumato.generative_model import GenerativeModel

from . import ema
from .engine import Engine
from .held_out import HeldOut
from .saving import Saver


@dataclass(frozen=True)
class Choice:
    """The average that was chosen.

    Arguments:
        model: with the averaged weights, in memory of its own.
        width: of the average's profile.
        bounds: held-out bounds by width.
    """

    model: GenerativeModel
    width: float
    bounds: Mapping[float, float]


def choose_average(engine: Engine, saver: Saver, bound: HeldOut) -> Choice:
    """Choose the average with the best ``bound``, of those in ``ema.CANDIDATES``; all processes call it."""
    states = saver.averages()
    model = engine.state.averaged_model()
    width, bounds = ema.choose(model.module, states, engine.state.ema.widths, engine.images, bound.value)
    return Choice(model, width, bounds)
