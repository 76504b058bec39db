"""The end of a session in images, which the learning rate falls to: known for steps, forecast for a budget."""

import math
from collections.abc import Callable

from .clock import Clock
from .run import TrainingRun

GROWTH = 1.05  # of the images from one forecast to the next


class Forecasts:
    """Keeps the schedule of a run up to date, at moments that are the same on all processes.

    Arguments:
        run: the model in training.
        steps: steps at which the session ends, over all sessions; None for a budget.
        note: writes a row of the record.
    """

    def __init__(self, run: TrainingRun, steps: int | None, note: Callable[..., None]) -> None:
        self._run = run
        self._note = note
        self._next: float = 0  # images at the next forecast
        if steps is not None:
            run.expect(steps * run.engine.batch)
            self._next = math.inf

    def update(self, clock: Clock, closing: int) -> None:
        """Forecast the end if it is time; ``closing`` is the number of evaluations after the last step."""
        run = self._run
        if run.images >= self._next:
            end = run.images + int(run.world.max(clock.images_left(closing))[0])
            run.expect(end)
            self._next = math.ceil(run.images * GROWTH)
            self._note("forecast", end=end)

    def end(self, reason: str) -> None:
        """The session has ended; with its goal reached, going on is another leg of the schedule."""
        if reason in ("steps", "budget"):
            self._run.end_leg()
