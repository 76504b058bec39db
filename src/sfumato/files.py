"""Writing files so that a crash at any moment leaves the old one or the new one, never half of either."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a path beside ``path``, flush what it wrote to the disk, and rename it into place.

    The path beside keeps the suffix, for writers that choose a format by it. What was half written is removed.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


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
