"""Check where a result is to be written before the work starts."""

import errno
import os
from pathlib import Path

from sfumato.errors import InputError
from sfumato.files import reach
from sfumato.reporting import SILENT, Reporter


def require_writable(flag: str, path: Path | None) -> None:
    """Check that a file can be written at ``path``; None is fine.

    Raises:
        InputError: names ``flag`` if ``path`` is a folder or no regular file, or its folder is missing or cannot be
            written to.
    """
    if path is None:
        return
    if reach(path) and path.is_dir():
        raise InputError(f"{flag} {path}: is a folder; give the name of a file in it")
    if path.exists() and not path.is_file():
        raise InputError(f"{flag} {path}: is a pipe or a device; give the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"{flag} {path}: the folder {path.parent} does not exist; create it first")
    if not may_write(path.parent):
        raise InputError(f"{flag} {path}: the folder {path.parent} cannot be written to; choose another")


def require_writable_figure(flag: str, path: Path | None) -> None:
    """``require_writable`` for a figure and the numbers beside it."""
    require_writable(flag, path)
    if path is not None:
        require_writable(flag, path.with_suffix(".json"))


def require_writable_run(folder: Path, remedy: str = "copy the run to a folder of your own, and give that") -> None:
    """Check that files can be written into ``folder``, which may not exist.

    Raises:
        InputError: they cannot.
    """
    if why := _obstacle(folder):
        raise InputError(f"{folder}: cannot be written ({why}); {remedy}")


def writable_or_here(folder: Path, reporter: Reporter = SILENT, remedy: str = "give --out") -> Path:
    """``folder``, or the current folder, with a note, where it cannot be written to; ``remedy`` is for neither.

    Raises:
        InputError: neither can be written to.
    """
    if may_write(folder):
        return folder
    if not may_write(Path()):
        raise InputError(f"{folder}: cannot be written to, and neither can the current folder; {remedy}")
    reporter.info(f"{folder} cannot be written to; the results go into the current folder")
    return Path()


def may_write(folder: Path) -> bool:
    """Whether files can be made in ``folder``; if it does not exist, in a folder of that name once it is made."""
    return _obstacle(folder) is None


def _obstacle(folder: Path) -> str | None:
    """Why no files can be made in ``folder``, in the words of the system."""
    there = folder.absolute()
    while not reach(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return os.strerror(errno.ENOTDIR)
    return None if os.access(there, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
