"""The reporter of the command line and of notebooks: lines of text, and a progress bar drawn by tqdm."""

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from sfumato.reporting import Task, duration

PATIENCE = 2.0  # seconds before a bar is drawn; shorter work needs none
TICK = 1.0  # seconds after which a bar is drawn again though nothing was reported: the time left goes down
BETWEEN_LINES = 5.0  # seconds between the lines that replace a bar where none can be drawn; doubled at each of no news

_STYLE = {
    "bar_format": "{desc} {percentage:3.0f}% |{bar:24}| {unit}",  # tqdm's own fields leave no room for our details
    "leave": False,
    "mininterval": 0.2,
    "miniters": 0,
}


def is_main_process() -> bool:
    """Whether this process speaks for all that torchrun started; the others print errors only."""
    return os.environ.get("RANK", "0") == "0"


@runtime_checkable
class Stream(Protocol):
    """A text stream: all that is needed of standard output, of a file, and of what a test puts in their place."""

    def write(self, text: str, /) -> object:
        """Write the text."""

    def flush(self) -> object:
        """Pass on everything that was written."""


class Console:
    """Reports to a terminal, a notebook or a log file.

    A bar with the remaining time is drawn on a terminal and in a notebook. Where standard error is neither, a line is
    printed every few seconds instead, and ever more seldom, with the time so far, while there is no news. No line is
    printed twice in a row. Under torchrun only the main process reports.

    Arguments:
        lines: the stream for lines of information; standard output by default. Warnings and bars go to standard error.
    """

    def __init__(self, lines: Stream | None = None) -> None:
        self._lines = lines
        self._last_bar = -math.inf  # when one was seen
        self._last_line = ""  # that replaced a bar

    def info(self, text: str = "") -> None:
        """Print one line of information."""
        if is_main_process():
            _print(text, self._lines if self._lines is not None else sys.stdout)

    def warn(self, text: str) -> None:
        """Print one line of warning to standard error."""
        if is_main_process():
            _print(f"warning: {text}", sys.stderr)

    @contextmanager
    def task(self, label: str) -> Iterator[Task]:
        """Draw the progress of the work in this context; the bar disappears at its end."""
        # A bar that follows another one is drawn at once: nobody sees that it is a new one.
        patience = 0.0 if time.monotonic() - self._last_bar < PATIENCE else PATIENCE
        bar = _Bar(label, patience, self._log)
        try:
            yield bar
        finally:
            if bar.close():
                self._last_bar = time.monotonic()

    def _log(self, line: str) -> None:
        """Print a line of progress, unless the last one of this or of an earlier task says the same."""
        if line != self._last_line:
            self._last_line = line
            print(line, file=sys.stderr, flush=True)


def _print(text: str, stream: Stream | None) -> None:
    if stream is None:  # a process without a console
        return
    tqdm = sys.modules.get("tqdm")
    if tqdm is not None:
        tqdm.tqdm.write(text, file=stream)  # clears a bar that is being drawn, and draws it again below
        stream.flush()
    else:
        print(text, file=stream, flush=True)


class _Bar:
    """The progress of one task, drawn after ``patience`` seconds, or given to ``log`` line by line."""

    def __init__(self, label: str, patience: float, log: Callable[[str], None]) -> None:
        self._label = label
        self._patience = patience
        self._log = log
        self._started = self._last = self._updated = time.monotonic()
        self._drawn: Any = None
        self._line, self._silence = ("", ""), BETWEEN_LINES  # what the last line said, and how long that will do
        self._told: tuple[float, str, float] = (0.0, "", float("inf"))  # fraction, text, when the work will be over
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
        if is_main_process():
            self._ticker.start()

    def update(self, fraction: float, text: str = "", seconds_left: float | None = None) -> None:
        """Draw ``fraction`` done, ``text``, and the seconds left, by default those that the pace so far predicts."""
        now = time.monotonic()
        if not is_main_process():
            return
        if seconds_left is None:
            seconds_left = (now - self._started) * (1 - fraction) / fraction if fraction > 0 else float("inf")
        with self._lock:
            self._updated, self._told = now, (fraction, text, now + seconds_left)
            self._draw(now)

    def _tick(self) -> None:
        """Draw what was told last again while the work is silent."""
        while not self._closed.wait(TICK):
            with self._lock:
                now = time.monotonic()
                if now - self._updated >= TICK and not self._closed.is_set():
                    self._draw(now)

    def _draw(self, now: int | float) -> None:
        if now - self._started < self._patience:
            return
        fraction, text, over = self._told
        left = [f"{duration(max(over - now, 0.0))} left"] if over < float("inf") else []
        details = "  ".join(part for part in (text, *left) if part)
        tqdm = _tqdm()
        if tqdm is None:
            self._write(f"{100 * fraction:3.0f}%", text, details, now)
            return
        if self._drawn is None:
            self._drawn = tqdm(total=1.0, desc=self._label, unit=details, initial=fraction, **_STYLE, **_shape())
        self._drawn.n = min(max(fraction, 0.0), 1.0)
        self._drawn.unit = details
        self._drawn.update(0)

    def _write(self, percent: str, text: str, details: str, now: int | float) -> None:
        """A line of a log: soon if there is news, else when the last one is as old as twice the time before it.

        Without news it has the time so far, for the time left was told before the work stood still.
        """
        news = (percent, text) != self._line
        if now - self._last < (BETWEEN_LINES if news else self._silence):
            return
        self._line, self._silence, self._last = (percent, text), 2 * (BETWEEN_LINES if news else self._silence), now
        if not news or not details:
            details = "  ".join(part for part in (text, f"{duration(now - self._started)} so far") if part)
        self._log(f"{self._label} {percent}  {details}")

    def count(self, done: int, total: int) -> None:
        """Draw ``done`` of ``total``."""
        self.update(done / total if total else 1.0, f"{done:,}/{total:,}")

    def close(self) -> bool:
        """Remove the bar. Returns whether there was one."""
        self._closed.set()
        if self._ticker.is_alive():
            self._ticker.join()
        if self._drawn is not None:
            self._drawn.close()
        return self._drawn is not None


def _tqdm() -> Any:
    """The bar of tqdm.auto that suits standard error; None where neither a terminal nor a notebook shows one."""
    from tqdm.auto import tqdm

    if not _is_terminal(sys.stderr) and not any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__):
        return None
    tqdm.monitor_interval = 0  # no thread of its own: updates are frequent enough
    return tqdm


def _is_terminal(stream: Any) -> bool:
    """Whether the stream is a terminal; None, and a stream that does not say, are none."""
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and bool(isatty())


def _shape() -> dict[str, Any]:
    """How tqdm finds the width of the bar: some terminals do not know their own."""
    known = not _is_terminal(sys.stderr) or all(os.get_terminal_size(sys.stderr.fileno()))
    return {"dynamic_ncols": True} if known else {"ncols": 100, "nrows": 24}
