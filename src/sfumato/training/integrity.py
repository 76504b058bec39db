"""Whether a checkpoint is whole: a manifest with the digest of every file, and files written by several processes.

Neither safetensors nor torch notices a flipped bit, so every digest is compared.
"""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sfumato._version import __version__
from sfumato.errors import InputError
from sfumato.files import digest, flush, no_permission

FORMAT = 2  # of a checkpoint; raised when a reader of another one could misread it
MANIFEST = "manifest.json"
STATE = "state.json"

_SLICE = re.compile(r"(.+)-([0-9]+)-of-([0-9]+)")  # the stem of the file of one process among several


def directory_name(images: int) -> str:
    """The name of the checkpoint after this many images."""
    return f"{images:012d}"


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint: the first file that is missing, unlisted or changed; None for a whole one.

    Raises:
        NoPermissionError: it cannot be told, because this user may not read the folder or a file in it.
    """
    try:
        with os.scandir(path) as entries:
            plain = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    except PermissionError:
        raise no_permission(path) from None
    except OSError as error:
        return error.strerror or str(error)
    digests = read_json(path / MANIFEST) if plain.get(MANIFEST) else f"{MANIFEST} is missing"
    if isinstance(digests, str):
        return digests
    for name in sorted({*digests, *plain} - {MANIFEST}):
        if name not in plain:
            return f"{name} is missing"
        if name not in digests:
            return f"{name} is not in the manifest"
        if not plain[name]:  # a link may lead out of the folder, a pipe nowhere
            return f"{name} is not a plain file"
        try:
            if digest(path / name) != digests[name]:
                return f"{name} has changed since it was written"
        except PermissionError:
            raise no_permission(path / name) from None
        except OSError as error:
            return f"{name}: {error.strerror}"
    state = read_json(path / STATE) if STATE in plain else f"{STATE} is missing"
    if isinstance(state, str):
        return state
    if type(state.get("images")) is not int or type(state.get("format", FORMAT)) is not int:
        return f"{STATE} does not say how many images were seen"
    if path.name != directory_name(state["images"]):
        return f"{STATE} belongs to another checkpoint, after {state['images']} images"
    return _missing_slices(digests)


def read_state(path: Path) -> dict[str, Any]:
    """The state of a whole checkpoint.

    Raises:
        InputError: a damaged file, or another format.
    """
    state = read_json(path / STATE)
    if isinstance(state, str):
        raise InputError(f"{path}: damaged ({state}); delete it to continue from an earlier one")
    if (found := state.pop("format", FORMAT)) != FORMAT:
        remedy = "upgrade Sfumato" if found > FORMAT else "train again with another --out"
        raise InputError(
            f"{path / STATE}: a checkpoint of format {found}, and this Sfumato {__version__} reads {FORMAT}; {remedy}"
        )
    return state


def write_json(file: Path, data: Any) -> None:
    """Write and flush JSON in the one spelling that ``read_json`` accepts."""
    file.write_bytes(_json(data))
    flush(file)


def read_json(file: Path) -> dict[str, Any] | str:
    """The object in a file that ``write_json`` wrote, or what is wrong with it.

    Raises:
        NoPermissionError: this user may not read it.
    """
    try:
        text = file.read_bytes()
        data = json.loads(text)
    except PermissionError:
        raise no_permission(file) from None
    except OSError as error:
        return f"{file.name}: {error.strerror}"
    except (ValueError, RecursionError):
        return f"{file.name} is not JSON"
    if not isinstance(data, dict):
        return f"{file.name} is not a JSON object"
    if text != _json(data):  # no digest guards the manifest, but it has only one spelling
        return f"{file.name} has changed since it was written"
    return data


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=2) + "\n").encode()


def slice_of(stem: str) -> tuple[str, int, int]:
    """(Name of the tensors, rank, number of processes) of a file."""
    found = _SLICE.fullmatch(stem)
    return (found[1], int(found[2]), int(found[3])) if found else (stem, 0, 1)


def _missing_slices(names: Iterable[str]) -> str | None:
    present: dict[str, list[tuple[int, int]]] = {}
    for name in sorted(names):
        if name.endswith(".safetensors"):
            tensors, rank, size = slice_of(name.removesuffix(".safetensors"))
            present.setdefault(tensors, []).append((rank, size))
    for tensors, found in present.items():
        size = found[0][1]
        if len(found) != size or sorted(found) != [(rank, size) for rank in range(size)]:
            slices = ", ".join(f"{rank} of {of}" for rank, of in sorted(found))
            return f"{tensors} is incomplete: it has slices {slices}"
    return None
