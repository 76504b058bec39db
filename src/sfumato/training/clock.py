"""The times of a training session: when to save, to look, to measure and to stop, and how much of it is over."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 1.0  # seconds in which a GPU's results are not looked at
SAVING = 100  # times as long as a save takes until the next one: it takes a hundredth of the time at most
WRITING = 0.5  # seconds until the last checkpoint is on the disk, and at most CLOSING of the budget
STEP = 3.0  # a sample's part of a step, in evaluations: forward, and back, which takes twice as long
MEASURING = 0.02  # of the time so far, for all measurements while a budget lasts
CLOSING = 0.02  # of the time so far, for the last measurement and the choice of an average


class Clock:
    """Measures a session, which begins now.

    The time that the closing will take is kept back from the budget, and so is what the caller will need ``after``.

    Arguments:
        ends: the value of ``now`` at which the budget ends, or None.
        checkpoint_every: seconds between checkpoints.
        trained: seconds of training in earlier sessions.
        after: the seconds of the budget that will be needed after the session, as a function of the seconds that an
            evaluation of a sample takes.
        now: what the time is.
    """

    def __init__(
        self,
        ends: float | None,
        checkpoint_every: float,
        trained: float,
        after: Callable[[float], float] = lambda seconds_per_evaluation: 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._ends = ends
        self._checkpoint_every = checkpoint_every
        self._trained_before = trained
        self._needed_after = after
        self._started = self._saved = self._accounted = now()
        self._save_took = 0.0
        self._measured = 0.0  # seconds of measurements so far
        self._stepped = (0.0, 0)  # seconds, images
        self._evaluation: float | None = None  # seconds, according to the last measurement
        self.stepping = 0.0  # seconds of steps since ``start_row``

    def trained(self) -> float:
        """Seconds of training over all sessions."""
        return self._trained_before + self._now() - self._started

    def seconds_per_evaluation(self) -> float:
        """Of one sample in a measurement: measured, or judged by the steps; 0 before the first step."""
        if self._evaluation is not None:
            return self._evaluation
        seconds, images = self._stepped
        return seconds / images / STEP if images else 0.0

    def kept_back(self, closing: int) -> float:
        """Seconds of the budget that are not for steps, when the closing makes ``closing`` evaluations."""
        return min(closing * self.seconds_per_evaluation(), CLOSING * self._elapsed) + self._writing + self._after

    def closing_time(self) -> float:
        """Seconds for the last measurement and the choice of an average; endless without a budget."""
        return math.inf if self._ends is None else CLOSING * self._elapsed

    def seconds_for_steps(self, closing: int) -> float:
        """Seconds of the budget that are left for steps; endless without a budget."""
        return math.inf if self._ends is None else max(self._ends - self._now() - self.kept_back(closing), 0.0)

    def images_left(self, closing: int) -> float:
        """Images that the rest of the budget is enough for at the pace so far, with its measurements and saves."""
        return self.seconds_for_steps(closing) * self._stepped[1] / max(self._elapsed, 1e-9)

    def budget_over(self, closing: int) -> bool:
        """Whether the time left is needed for the closing, of ``closing`` evaluations, and what comes after.

        Not before the first step, which there is always time for.
        """
        return self._stepped[1] > 0 and not self.seconds_for_steps(closing)

    def save_due(self) -> bool:
        """Whether to write a checkpoint."""
        return self._now() - self._saved > max(self._checkpoint_every, SAVING * self._save_took)

    def look_due(self) -> bool:
        """Whether the last look at the results of steps was long ago."""
        return self._now() - self._accounted > PATIENCE

    def can_measure(self, evaluations: int) -> bool:
        """Whether a measurement keeps all of them within their part of the time. Always true without a budget."""
        expected = self._measured + evaluations * self.seconds_per_evaluation()
        return self._ends is None or expected <= MEASURING * self._elapsed

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measures a save, which is no time of steps."""
        started = self._now()
        yield
        self._saved = self._now()
        self._save_took = self._saved - started
        self._accounted += self._save_took

    @contextmanager
    def measuring(self, evaluations: int) -> Iterator[None]:
        """Measures a measurement of so many evaluations right after ``steps_done``, which is no time of steps."""
        yield
        now = self._now()
        self._evaluation = (now - self._accounted) / evaluations
        self._measured += now - self._accounted
        self._accounted = now

    def steps_done(self, images: int) -> None:
        """Account the time since the last call, without saves and measurements, to the steps of ``images`` in it."""
        now = self._now()
        seconds, before = self._stepped
        self._stepped = seconds + now - self._accounted, before + images
        self.stepping += now - self._accounted
        self._accounted = now

    def start_row(self) -> None:
        """Set ``stepping`` to 0."""
        self.stepping = 0.0

    def fraction(self, done: float, closing: int) -> float:
        """The fraction of the session that is over, by the budget or by ``done``, that of the steps."""
        if self._ends is None:
            return done
        whole = max(self._ends - self._after - self._started, 1e-9)
        spent = self._accounted - self._started + self.kept_back(closing) - self._after
        return max(done, min(spent / whole, 1.0))

    def seconds_left(self, done: float, closing: int) -> float:
        """Seconds until the end of the closing, when ``done`` of the steps are made."""
        spent = self._accounted - self._started
        by_steps = spent * (1 - done) / done + closing * self.seconds_per_evaluation() if done else math.inf
        by_budget = math.inf if self._ends is None else max(self._ends - self._after - self._now(), 0.0)
        return min(by_steps, by_budget)

    @property
    def _after(self) -> float:
        return self._needed_after(self.seconds_per_evaluation())

    @property
    def _elapsed(self) -> float:
        return self._now() - self._started

    @property
    def _writing(self) -> float:
        whole = 0.0 if self._ends is None else self._ends - self._started
        return min(WRITING, CLOSING * whole) + self._save_took
