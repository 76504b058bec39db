"""Signals that end a run after the current step; a second signal ends it at once, as usual."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

STOPS: Final = MappingProxyType(
    {
        "SIGINT": "interrupted",  # Ctrl-C
        "SIGTERM": "terminated",  # the machine shuts down, or the scheduler's time is over
        "SIGUSR1": "asked",  # from a scheduler that will start the run again
    }
)
"""Why a run stopped, by the name of the signal. Not every system has all of them."""

AT_ONCE: Final = ("terminated", "asked")
"""Reasons after which a run only writes a checkpoint: the sender does not wait for measurements."""

STATUSES: Final = MappingProxyType({"interrupted": 130, "terminated": 143})
"""Exit statuses by reason; 0 for every other reason."""


@contextmanager
def listen(answer: Callable[[str], None] = lambda reason: None) -> Iterator[Callable[[], str | None]]:
    """Listen to the signals inside the context.

    The context gives a function that returns the reason to stop, or None before a signal has arrived. Only the main
    thread receives signals. A signal that is ignored, as under nohup, stays ignored.

    Arguments:
        answer: called with the reason as soon as the first signal arrives, in another thread: the main thread may be
            in the middle of a long computation.
    """
    reasons: list[str] = []
    handlers: dict[int, Any] = {}

    def handle(signum: int, frame: object) -> None:
        reasons.append(STOPS[signal.Signals(signum).name])
        signal.signal(signum, handlers[signum])

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    for name in STOPS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            handlers[number] = signal.signal(number, handle)
    try:
        with _answering({int(number): STOPS[signal.Signals(number).name] for number in handlers}, answer):
            yield lambda: reasons[0] if reasons else None
    finally:
        for number, former in handlers.items():
            signal.signal(number, former)


@contextmanager
def _answering(reasons: dict[int, str], answer: Callable[[str], None]) -> Iterator[None]:
    """Call ``answer`` in a thread when the first of the signals arrives, which the interpreter writes to a socket."""
    written, read = socket.socketpair()
    written.setblocking(False)

    def wait() -> None:
        while numbers := read.recv(1):
            if numbers[0] in reasons:
                answer(reasons[numbers[0]])
                return

    thread = threading.Thread(target=wait, name="signals", daemon=True)
    thread.start()
    former = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        written.close()  # ends the thread
        thread.join()
        read.close()
