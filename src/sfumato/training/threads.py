"""How many threads a step on the CPU should use: chosen by trial, and again when something else wants the cores.

Threads of a parallel region wait for each other by spinning. On two cores, a step of the demo's network took two
threads 0.65 of one thread's time on a quiet machine, and eighty times as long beside one other busy process: no rule
knows which it is.
"""

import time
from collections.abc import Callable

import torch

TRIALS = 2  # of each number of threads; the faster one counts
SUSPICIOUS = 4.0  # times the fastest step so far
PATIENCE = 5.0  # seconds from one choice to the next


class Threads:
    """Chooses between all threads that torch has and one, by the time that ``trial`` takes."""

    def __init__(self, trial: Callable[[], object]) -> None:
        self._trial = trial
        self._most = torch.get_num_threads()
        self._fastest = float("inf")
        self._chosen_at = float("-inf")

    def choose(self) -> int:
        """Try both, keep the faster, and return it. Does nothing where torch has one thread only."""
        if self._most > 1:
            seconds = {count: self._time(count) for count in (1, self._most)}
            torch.set_num_threads(min(seconds, key=seconds.__getitem__))
            self._fastest = min(seconds.values())
            self._chosen_at = time.monotonic()
        return torch.get_num_threads()

    def heed(self, seconds: float) -> None:
        """Choose again if a step that took ``seconds`` is far slower than the fastest was."""
        self._fastest = min(self._fastest, seconds)
        if seconds > SUSPICIOUS * self._fastest and time.monotonic() - self._chosen_at > PATIENCE:
            self.choose()

    def _time(self, count: int) -> float:
        torch.set_num_threads(count)
        best = float("inf")
        for _ in range(TRIALS):
            started = time.perf_counter()
            self._trial()
            best = min(best, time.perf_counter() - started)
        return best
