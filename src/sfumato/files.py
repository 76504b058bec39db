"""Atomic writing of files: a crash at any moment leaves the old file or the new one, never half of either."""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from sfumato.errors import NoPermissionError

_NO_SUCH_CALL = {errno.EINVAL, errno.ENOTSUP}  # some network file systems do not flush folders


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Write ``path`` atomically: ``write`` writes a file of that name in a temporary folder, which is then moved.

    The temporary folder is next to ``path``, and also holds what the writer itself writes next to the file. A killed
    process leaves it behind; the next write of ``path`` removes it. An error removes it at once.

    Whatever mode the writer gives the file, it gets that of any new file (the umask).

    Arguments:
        path: the file.
        write: called with the temporary path.
    """
    sweep(path.parent, path.name)
    folder = temporary(path)
    folder.mkdir()
    try:
        write(folder / path.name)
        apply_umask(folder / path.name)
        flush(folder / path.name)
        os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_with(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def strict_json(data: object, indent: int | None = None) -> str:
    """``data`` as JSON in ASCII, with null for every number that is not finite: JSON has no NaN."""
    return json.dumps(_finite(data), indent=indent, allow_nan=False)


def _finite(data: object) -> object:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def apply_umask(file: Path) -> None:
    """Give the file the mode of any new file beside it; some writers make files that only their owner may read."""
    example = file.with_name(f".mode-{os.getpid()}")
    with open(example, "xb"):  # the umask itself can only be read by changing it, for all threads
        mode = stat.S_IMODE(os.stat(example).st_mode)
    os.unlink(example)
    os.chmod(file, mode)


def expanded(path: str | Path) -> Path:
    """The path with ~ and ~user replaced by a home folder, if there is such a user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user: a folder that is really called so
        return Path(path)


def reach(path: Path) -> bool:
    """Whether there is anything at ``path``.

    Raises:
        NoPermissionError: a folder on the way may not be entered.
    """
    try:
        os.stat(path)
    except PermissionError:
        raise no_permission(path) from None
    except (OSError, ValueError):
        return False
    return True


def no_permission(path: object) -> NoPermissionError:
    """The error for a file that this user may not read or write."""
    return NoPermissionError(f"{path}: no permission to read or write it; change its mode, or ask its owner")


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def flush(file: Path) -> None:
    """Wait until the content of the file is on the disk."""
    with open(file, "rb+") as stream:  # Windows only flushes files that are open for writing
        os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in the folder are on the disk, on systems that can flush folders."""
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


def temporary(path: Path) -> Path:
    """Where this process writes what it will rename to ``path``: a hidden name in the same folder."""
    return path.with_name(f".writing-{path.name}-{os.getpid()}")


def sweep(folder: Path, name: str | None = None, alone: bool = False) -> None:
    """Remove what dead processes left at ``temporary`` paths in ``folder``.

    A process writes one thing of a name at a time, so what bears the number of this process is left by an earlier
    process of that number.

    Arguments:
        folder: the folder.
        name: of the files whose temporary paths to remove; None for all.
        alone: no other process writes here, so that all are left over, even with the number of a process that lives:
            systems give numbers again.
    """
    pattern = re.compile(rf"\.writing-{'.*' if name is None else re.escape(name)}-([0-9]+)", re.DOTALL)
    try:
        entries = os.listdir(folder)
    except PermissionError:  # a folder may be writable and not readable
        return
    for entry in entries:
        left = pattern.fullmatch(entry)
        if left and (alone or int(left[1]) == os.getpid() or not _alive(int(left[1]))):
            shutil.rmtree(folder / entry, ignore_errors=True)  # one that stays does no harm


def _alive(process: int) -> bool:
    if sys.platform == "win32":  # os.kill would end the process
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
