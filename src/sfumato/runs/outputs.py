"""Check where a result is to be written before the work starts."""

import os
from pathlib import Path

from sfumato.errors import InputError


def require_writable(flag: str, path: Path | None) -> None:
    """Check that a file can be written at ``path``; None is fine.

    Raises:
        InputError: names ``flag`` if ``path`` is a folder, or its folder is missing or cannot be written to.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{flag} {path}: is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise InputError(f"{flag} {path}: the folder {path.parent} does not exist; create it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise InputError(f"{flag} {path}: the folder {path.parent} cannot be written to; choose another")
