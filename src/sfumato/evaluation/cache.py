"""What takes long to compute from data and is the same next time: features and encoders, kept in the user's cache.

The folder is ``$XDG_CACHE_HOME/sfumato/features``, by default below ``~/.cache``. A file is found by the digest of
all that it depends on, so it never goes out of date. Of more than 4 GiB, the longest unused are deleted. Where nothing
can be written, nothing is kept.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sfumato.files import write_with

LARGEST = 4 << 30  # bytes in all


def folder() -> Path:
    """Where features are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sfumato" / "features"


def fingerprint(about: str, values: Tensor) -> str:
    """The digest of a text and of values with their shape and type."""
    hasher = hashlib.sha256(f"{about}\n{values.dtype} {tuple(values.shape)}\n".encode())
    hasher.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def kept(about: str, values: Tensor, compute: Callable[[], Mapping[str, Tensor]]) -> tuple[dict[str, Tensor], str]:
    """What ``compute`` returns, computed once for a text and these values; and the digest by which it is kept.

    Arguments:
        about: what is computed, with its version and settings.
        values: what it is computed from.
        compute: makes the tensors.
    """
    key = fingerprint(about, values)
    path = folder() / f"{key}.safetensors"
    try:
        found = load_file(path)
        os.utime(path)
        return found, key
    except (OSError, SafetensorError):  # none yet, or a damaged one: it is written again
        pass
    made = {name: value.contiguous() for name, value in compute().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_with(path, lambda beside: save_file(made, beside))
        _tidy(path)
    except OSError:  # a cache that cannot be written is no reason to fail
        pass
    return made, key


def has(about: str, values: Tensor) -> bool:
    """Whether ``kept`` would find it."""
    return (folder() / f"{fingerprint(about, values)}.safetensors").is_file()


def _tidy(newest: Path) -> None:
    files = sorted((p for p in newest.parent.glob("*.safetensors") if p != newest), key=lambda p: -p.stat().st_mtime)
    total = newest.stat().st_size
    for file in files:
        total += file.stat().st_size
        if total > LARGEST:
            file.unlink(missing_ok=True)
