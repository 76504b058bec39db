"""What ends a run early: signals, heard at the next step boundary; a second one ends it at once, as usual."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

STOPS: Final = MappingProxyType(
    {
        "SIGINT": "interrupted",  # Ctrl-C
        "SIGTERM": "terminated",  # a machine that goes down, a scheduler whose time is up
        "SIGUSR1": "asked",  # a scheduler that will start the run again
    }
)
"""Why a run stopped, by the signal; the systems that lack one never send it."""

AT_ONCE: Final = ("terminated", "asked")
"""The reasons after which nothing is done but a checkpoint: whoever sent these waits for no pictures."""

STATUSES: Final = MappingProxyType({"interrupted": 130, "terminated": 143})
"""Exit statuses, by the reason; 0 for every other one."""


@contextmanager
def heard() -> Iterator[Callable[[], str | None]]:
    """A function that says why to stop, once one of the signals has come, or None.

    The signals belong to the main thread, and one that is ignored, as under nohup, stays ignored.
    """
    came: list[str] = []
    formers: dict[int, Any] = {}

    def handle(signum: int, frame: object) -> None:
        came.append(STOPS[signal.Signals(signum).name])
        signal.signal(signum, formers[signum])

    if threading.current_thread() is threading.main_thread():
        for name in STOPS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                formers[number] = signal.signal(number, handle)
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, former in formers.items():
            signal.signal(number, former)
