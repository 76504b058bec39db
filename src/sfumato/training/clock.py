"""The times of a training session: when to save, to look and to stop, and how much of the budget is gone."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .ema import CANDIDATES

PATIENCE = 1.0  # seconds in which a GPU's results are not looked at
CLOSING = 1 + len(CANDIDATES) / 2  # the last measurement and the choice of an average, in measurements
SAVING = 100  # times as long as a save takes until the next one: it takes a hundredth of the time at most


class Clock:
    """Measures a session, which begins now.

    The time that the closing will take, judged by the last measurement and save, is kept back from the budget.

    Arguments:
        ends: the value of ``time.monotonic`` at which the budget ends, or None.
        checkpoint_every: seconds between checkpoints.
        trained: seconds of training in earlier sessions.
    """

    def __init__(self, ends: float | None, checkpoint_every: float, trained: float) -> None:
        now = time.monotonic()
        self._ends = ends
        self._checkpoint_every = checkpoint_every
        self._trained_before = trained
        self._started = self._saved = self._accounted = now
        self._budget = None if ends is None else max(ends - now, 1e-9)
        self._closing = 0.0  # seconds that the last measurement and save predict
        self._save_took = 0.0
        self.stepping = 0.0  # seconds of steps since ``start_row``

    def trained(self) -> float:
        """Seconds of training over all sessions."""
        return self._trained_before + time.monotonic() - self._started

    def budget_over(self) -> bool:
        """Whether the time left is needed for the closing."""
        return self._ends is not None and time.monotonic() + self._closing >= self._ends

    def save_due(self) -> bool:
        """Whether to write a checkpoint."""
        return time.monotonic() - self._saved > max(self._checkpoint_every, SAVING * self._save_took)

    def look_due(self) -> bool:
        """Whether the last look at the results of steps was long ago."""
        return time.monotonic() - self._accounted > PATIENCE

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measures a save, which is no time of steps."""
        started = time.monotonic()
        yield
        self._saved = time.monotonic()
        self._save_took = self._saved - started
        self._accounted += self._save_took

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measures a measurement right after ``steps_done``, which is no time of steps."""
        yield
        now = time.monotonic()
        self._closing = CLOSING * (now - self._accounted) + self._save_took
        self._accounted = now

    def steps_done(self) -> None:
        """Account the time since the last call, without saves and measurements, to the steps made in it."""
        now = time.monotonic()
        self.stepping += now - self._accounted
        self._accounted = now

    def start_row(self) -> None:
        """Set ``stepping`` to 0."""
        self.stepping = 0.0

    def fraction(self, done: float) -> float:
        """The fraction of the session that is over, by the budget or by ``done``, that of the steps."""
        if self._budget is None:
            return done
        return max(done, min((self._spent + self._closing) / self._budget, 1.0))

    def seconds_left(self, fraction: float) -> float:
        """Seconds until the end when ``fraction`` of the session is over."""
        return self._spent * (1 - fraction) / fraction if fraction else math.inf

    @property
    def _spent(self) -> float:
        return self._accounted - self._started
