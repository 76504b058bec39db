"""How long-running work reports: lines of information, warnings and progress.

Functions below the command line take a ``Reporter``. They do not know whether it writes to a terminal, a notebook or a
web page. ``SILENT`` discards everything.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

Progress = Callable[[int, int], None]
"""``(done, total)``, called while work is done; ``Task.count`` is one."""


@runtime_checkable  # so that the test run can check annotations
class Task(Protocol):
    """The progress of one piece of work."""

    def update(self, fraction: float, text: str = "", seconds_left: float | None = None) -> None:
        """Report that ``fraction`` in [0, 1] of the work is done.

        Arguments:
            fraction: the fraction of the work that is done.
            text: details to show beside the progress.
            seconds_left: the remaining time; None to estimate it from the pace so far.
        """

    def count(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units of work are done."""


@runtime_checkable
class Reporter(Protocol):
    """The receiver of everything that a piece of work reports."""

    def info(self, text: str = "") -> None:
        """Report one line of information."""

    def warn(self, text: str) -> None:
        """Report one line of warning."""

    def task(self, label: str) -> AbstractContextManager[Task]:
        """Open a task called ``label``; it is over when the context ends."""


class Silent:
    """A reporter, and a task, that discards everything."""

    def info(self, text: str = "") -> None:
        """Discard the line."""

    def warn(self, text: str) -> None:
        """Discard the warning."""

    @contextmanager
    def task(self, label: str) -> Iterator[Task]:
        """Open a task that discards its progress."""
        yield self

    def update(self, fraction: float, text: str = "", seconds_left: float | None = None) -> None:
        """Discard the progress."""

    def count(self, done: int, total: int) -> None:
        """Discard the progress."""


SILENT = Silent()


def duration(seconds: float | int) -> str:
    """A time in words: 8 s, 1 min 30 s, 2 h 5 min; "?" if it is infinite or unknown."""
    if not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
