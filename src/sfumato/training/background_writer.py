"""Checkpoints written in the background."""

import atexit
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sfumato.world import ALONE, World

from . import checkpoint
from .checkpoint import Keep, Parts


class Writer:
    """Saves checkpoints in a thread of its own, one at a time, so that training goes on meanwhile.

    A process that ends waits for the thread; an error that nobody asked for by then is printed. The processes of a
    ``world`` write together; none but this may use it.
    """

    def __init__(self, folder: Path, keep: Keep, world: World = ALONE) -> None:
        self.folder = folder
        self.keep = keep
        self._world = world
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, images: int, parts: Parts, state: Mapping[str, Any], then: Callable[[], None] | None = None) -> None:
        """``checkpoint.save`` of the tensors as they are now. Waits for the one before, and raises what that raised."""
        self.wait()
        copies = {
            name: {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}
            for name, tensors in parts.items()
        }
        self._thread = threading.Thread(
            target=self._write, args=(images, copies, dict(state), then), name="checkpoint", daemon=False
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until what was saved is on the disk. Raises what went wrong, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            atexit.unregister(self._report)
            raise error

    def _write(self, images: int, parts: Parts, state: Mapping[str, Any], then: Callable[[], None] | None) -> None:
        try:
            checkpoint.save(self.folder, images, parts, state, self.keep, then, self._world)
        except BaseException as error:
            self._error = error
            atexit.register(self._report)

    def _report(self) -> None:
        print(f"sfumato: error: {self._error}", file=sys.stderr)
