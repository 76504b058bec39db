"""One process trains a run at a time: a lock of the operating system, which ends with the process that holds it."""

import errno
import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from sfumato.errors import BusyError, InputError
from sfumato.runs.folder import RunFolder

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}  # some network file systems have no locks
_FAR = 1 << 30  # the byte that Windows locks; a locked byte cannot be read, so it is beyond the text


class Lock:
    """Holds the lock of a run inside its context, in a file that names this process.

    On a file system without locks nothing is locked.

    Arguments:
        run: the folder.
        work: what the process does with it, for the message to others.

    Raises:
        BusyError: on entry, when another process holds the lock.
        InputError: on entry, when the file cannot be written.
    """

    def __init__(self, run: RunFolder, work: str = "training it") -> None:
        self.run = run
        self.work = work
        self._descriptor = -1

    def __enter__(self) -> "Lock":
        path = self.run.lock
        try:
            self._descriptor = _locked(path)
            who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M")}
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, json.dumps(who).encode())
        except BlockingIOError:
            raise BusyError(
                f"{self.run}: another process{_holder(path)} is {self.work}; wait for it, or end it"
            ) from None
        except OSError as error:
            self._close()
            raise InputError(
                f"{path}: cannot write ({error.strerror}); free some space or make {self.run} writable"
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        path = self.run.lock
        ours = _same(self._descriptor, path)  # unless the folder was replaced meanwhile
        if sys.platform == "win32":
            self._close()  # Windows removes no open file, so not that of the next holder either
        if ours:
            with suppress(OSError):  # the file alone locks nothing
                path.unlink()
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _locked(path: Path) -> int:
    """A descriptor of the file, locked. Raises BlockingIOError when another process has the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
            # The previous holder may have removed the file after it was opened here and before it was locked.
            if _same(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, error.strerror) from None
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """The holder that the file names, if it is written already."""
    try:
        who = json.loads(path.read_bytes())
        return f" (pid {int(who['pid'])}, host {who['host']}, since {who['since']})"
    except (OSError, ValueError, TypeError, KeyError):
        return ""
