"""Checkpoints written by a thread of their own."""

import atexit
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sfumato.world import ALONE, World

from . import checkpoint
from .checkpoint import NamedTensors
from .keep import Keep


class Writer:
    """Saves checkpoints one at a time in a thread, while training goes on.

    A process waits for the thread before it ends, and prints an error that was not collected by then.

    Arguments:
        folder: of the checkpoints.
        keep: which checkpoints to keep.
        world: the processes that write together; only this writer may communicate through it.
    """

    def __init__(self, folder: Path, keep: Keep, world: World = ALONE) -> None:
        self.folder = folder
        self.keep = keep
        self._world = world
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(
        self,
        images: int,
        tensors: NamedTensors,
        state: Mapping[str, Any],
        then: Callable[[], None] | None = None,
    ) -> None:
        """Start ``checkpoint.save`` of the tensors as they are now.

        Waits for the save before, and raises what that one raised.
        """
        self.wait()
        copies = {
            name: {key: value.detach().to("cpu", copy=True).contiguous() for key, value in named.items()}
            for name, named in tensors.items()
        }
        self._thread = threading.Thread(
            target=self._write, args=(images, copies, dict(state), then), name="checkpoint", daemon=False
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until the last save is on the disk. Raises what went wrong, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            atexit.unregister(self._report)
            raise error

    def _write(
        self, images: int, tensors: NamedTensors, state: Mapping[str, Any], then: Callable[[], None] | None
    ) -> None:
        try:
            checkpoint.save(self.folder, images, tensors, state, self.keep, then, self._world)
        except BaseException as error:
            self._error = error
            atexit.register(self._report)

    def _report(self) -> None:
        print(f"sfumato: error: {self._error}", file=sys.stderr)
