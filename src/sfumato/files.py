"""Writing files so that a crash at any moment leaves the old one or the new one, never half of either."""

import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

_NO_SUCH_CALL = {errno.EINVAL, errno.ENOTSUP}  # some network file systems do not flush folders


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a path of the same name in a folder beside ``path``, flush, and rename it into place.

    The folder also holds what the writer itself writes beside: all that a killed process left is removed at the next
    write. What was half written is removed at once.
    """
    sweep(path.parent, path.name)
    folder = beside(path)
    folder.mkdir()
    try:
        write(folder / path.name)
        flush(folder / path.name)
        os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """``write_with`` for UTF-8 text."""
    write_with(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def flush(file: Path) -> None:
    """Wait until what the file holds is on the disk."""
    with open(file, "rb+") as stream:  # Windows flushes only what is open for writing
        os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in the folder are on the disk, where folders can be flushed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows does not open folders; its rename is journalled
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise
    finally:
        os.close(descriptor)


def beside(place: Path) -> Path:
    """Where this process writes what is to be renamed to ``place``."""
    return place.with_name(f".writing-{place.name}-{os.getpid()}")


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what is ``beside`` in ``folder``, of places called ``name`` or of all, unless another live process writes.

    A process writes one thing of a name at a time: what has this one's number is left from a former life of the number.
    """
    pattern = re.compile(rf"\.writing-{'.*' if name is None else re.escape(name)}-([0-9]+)", re.DOTALL)
    try:
        entries = os.listdir(folder)
    except PermissionError:  # a folder may be written without being read
        return
    for entry in entries:
        stump = pattern.fullmatch(entry)
        if stump and (int(stump[1]) == os.getpid() or not _alive(int(stump[1]))):
            shutil.rmtree(folder / entry, ignore_errors=True)  # one that stays does no harm


def _alive(process: int) -> bool:
    if sys.platform == "win32":  # where os.kill would end it
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, process)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    else:
        try:
            os.kill(process, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:  # it is another user's
            return True
        return True
