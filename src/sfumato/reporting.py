"""How long work reports what it does: lines, warnings and progress.

Functions below the command line take a ``Reporter`` and know nothing of where its words go: a terminal, a notebook, a
page. ``SILENT`` discards everything.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Progress = Callable[[int, int], None]
"""``(done, total)``: called as parts of the work are done; ``Task.count`` is one."""


class Task(Protocol):
    """The progress of one piece of work."""

    def update(self, fraction: float, text: str = "", seconds_left: float | None = None) -> None:
        """Report that ``fraction`` in [0, 1] is done, with ``text`` beside it.

        ``seconds_left`` is the time that is left, where the caller knows better than the pace so far.
        """

    def count(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` parts are done."""


class Reporter(Protocol):
    """Where a piece of work reports."""

    def info(self, text: str = "") -> None:
        """Report a line for a person."""

    def warn(self, text: str) -> None:
        """Report a warning, one line."""

    def task(self, label: str) -> AbstractContextManager[Task]:
        """Report the progress of the work inside the context, under ``label``."""


class Silent:
    """A reporter, and a task, that discards everything."""

    def info(self, text: str = "") -> None:
        """Discard the line."""

    def warn(self, text: str) -> None:
        """Discard the warning."""

    @contextmanager
    def task(self, label: str) -> Iterator[Task]:
        """Discard the progress."""
        yield self

    def update(self, fraction: float, text: str = "", seconds_left: float | None = None) -> None:
        """Discard it."""

    def count(self, done: int, total: int) -> None:
        """Discard it."""


SILENT = Silent()
