"""Checkpoints: a folder of safetensors and JSON with a manifest of digests, whole or absent.

A checkpoint is written under a temporary name, each file flushed to the disk, the manifest last. Then the folder is
renamed and its parent flushed, and only then are older checkpoints deleted. A damaged one is moved aside, with a
warning, and the one before it is used.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sfumato.errors import DiskFullError, InputError, NoPermissionError
from sfumato.files import apply_umask, digest, flush, flush_folder, no_permission, sweep, temporary
from sfumato.world import ALONE, World

from .integrity import FORMAT as FORMAT
from .integrity import MANIFEST as MANIFEST
from .integrity import STATE as STATE
from .integrity import damage as damage
from .integrity import directory_name, read_json, read_state, slice_of, write_json
from .keep import USUAL, Keep

NamedTensors = Mapping[str, Mapping[str, Tensor]]
"""Tensors by their name, by the name of the file that holds them."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "make it writable"),
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
}


# ------------------------------------------------------------------------------------------------------------- writing


def save(
    folder: Path,
    images: int,
    tensors: NamedTensors,
    state: Mapping[str, Any],
    keep: Keep = USUAL,
    then: Callable[[], None] | None = None,
    world: World = ALONE,
) -> Path:
    """Write the checkpoint ``folder``/000000012800.

    A whole checkpoint of the same images is left as it is; a damaged one is moved aside. Whatever is raised, earlier
    checkpoints stay whole and nothing half written stays.

    Arguments:
        folder: of the checkpoints.
        images: images seen.
        tensors: a file per name.
        state: plain data.
        keep: which checkpoints to keep.
        then: called by the first process once the checkpoint is written.
        world: the processes that write together. Each writes its slices, a file per name (``write_tensors``).

    Returns:
        The path of the checkpoint.

    Raises:
        InputError: on all processes, when the disk is full or refuses.
    """
    path = folder / directory_name(images)
    draft = None
    try:
        with world.raise_together():
            if world.is_main and damage(path) is not None:
                draft = begin(folder, images)
        if shared := world.gather_text(str(draft or ""))[0]:
            digests: dict[str, str] = {}
            with world.raise_together():
                digests = write_tensors(Path(shared), tensors, world.rank, world.size)
            written = [json.loads(text) for text in world.gather_text(json.dumps(digests))]
            with world.raise_together():
                if draft is not None:
                    finish(draft, state, {name: text for files in written for name, text in files.items()}, keep)
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
    if then is not None and world.is_main:
        with _disk_errors(folder.parent, folder):
            then()
    return path


def begin(folder: Path, images: int) -> Path:
    """Make the temporary folder of a checkpoint, and remove those of killed processes. One process calls it.

    Raises:
        InputError: the disk refuses.
    """
    with _disk_errors(folder, folder):
        _make(folder)
        sweep(folder, alone=True)  # the process that trains a run holds its lock
        draft = temporary(folder / directory_name(images))
        draft.mkdir()
    return draft


def write_tensors(draft: Path, tensors: NamedTensors, rank: int = 0, size: int = 1) -> dict[str, str]:
    """Write the tensors of process ``rank`` of ``size`` into the folder that ``begin`` made.

    Each process writes its slice of every tensor along dimension 0. A tensor that is not sliced is written by rank 0
    alone, or has no dimensions.

    Returns:
        The digests of the files, by their names.

    Raises:
        InputError: the disk refuses.
    """
    suffix = "" if size == 1 else f"-{rank}-of-{size}"
    digests = {}
    with _disk_errors(draft.parent, draft.parent):
        for name, named in tensors.items():
            file = draft / f"{name}{suffix}.safetensors"
            save_file({key: value.detach().cpu().contiguous() for key, value in named.items()}, file)
            apply_umask(file)
            flush(file)
            digests[file.name] = digest(file)
    return digests


def finish(draft: Path, state: Mapping[str, Any], digests: Mapping[str, str], keep: Keep = USUAL) -> Path:
    """Complete the checkpoint in the folder that ``begin`` made, and delete those that ``keep`` does not name.

    One process calls it, after all others have written.

    Arguments:
        draft: the temporary folder.
        state: plain data.
        digests: those of the files of all processes.
        keep: which checkpoints to keep.

    Returns:
        The path of the checkpoint.

    Raises:
        InputError: the disk refuses.
    """
    folder, name = draft.parent, draft.name.split("-")[1]
    images, path = int(name), folder / name
    with _disk_errors(folder, folder):
        write_json(draft / STATE, {**state, "format": FORMAT, "images": images})
        write_json(draft / MANIFEST, dict(sorted({**digests, STATE: digest(draft / STATE)}.items())))
        flush_folder(draft)
        if path.exists():
            if damage(path) is None:
                shutil.rmtree(draft)
                return path
            _move_aside(path)
        os.rename(draft, path)
        flush_folder(folder)
        thin(folder, images, keep)
    return path


def thin(folder: Path, images: int, keep: Keep) -> None:
    """Delete the checkpoints up to this many images that ``keep`` does not name.

    Later ones are damaged and could not be moved: they neither count nor push out the newest.
    """
    before = {int(old.name): old for old in checkpoints(folder) if int(old.name) <= images}
    kept = keep.kept({count: _score(old) for count, old in before.items()})
    for count in before.keys() - kept:
        delete(before[count])


# ------------------------------------------------------------------------------------------------------------- reading


def newest(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint in ``folder``, or None.

    Damaged ones are moved aside, and ``warn`` is called with a line for each at the end.

    Raises:
        NoPermissionError: one that this user may not read; it may be whole, so it is neither moved nor passed over.
        InputError: a folder that cannot be read, or a whole checkpoint of another format.
    """
    damaged: list[str] = []
    whole = None
    for path in reversed(checkpoints(folder)):
        problem = damage(path)
        if problem is None:
            read_state(path)
            whole = path
            break
        try:
            done = f"moved aside to {_move_aside(path).name}"
        except OSError as error:
            done = f"passed over, because it cannot be moved aside: {error.strerror}"
        damaged.append(f"{path}: damaged ({problem}); {done}")
    for line in damaged:
        warn(line if whole is None else f"{line}, continuing from the one before it")
    return whole


def load(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors and the state of a whole checkpoint; slices of several processes are joined.

    Raises:
        InputError: a damaged file, one that may not be read, or another format.
    """
    state = read_state(path)
    read: dict[str, dict[int, dict[str, Tensor]]] = {}
    for file in sorted(path.glob("*.safetensors")):
        try:
            open(file, "rb").close()  # safetensors calls a file missing that may not be read
            tensors = load_file(file)
        except PermissionError:
            raise no_permission(file) from None
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(
                f"{file}: damaged or not safetensors ({error}); delete {path} to continue from an earlier one"
            ) from None
        name, rank, _ = slice_of(file.stem)
        read.setdefault(name, {})[rank] = tensors
    return {name: _joined([tensors for _, tensors in sorted(ranks.items())]) for name, ranks in read.items()}, state


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in ``folder``, oldest first, whole or not.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        names = [name for name in os.listdir(folder) if re.fullmatch("[0-9]+", name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); make it a folder that you may read") from None
    return sorted((folder / name for name in names if (folder / name).is_dir()), key=lambda path: int(path.name))


def delete(path: Path) -> None:
    """Remove a checkpoint. It is renamed first, so that a half-deleted one is never seen."""
    doomed = temporary(path)
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


# ------------------------------------------------------------------------------------------------------------- helpers


@contextmanager
def _disk_errors(target: Path, folder: Path) -> Iterator[None]:
    """Turn errors of the disk into one line with a remedy. ``folder`` is that of the checkpoints."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        cause = error if isinstance(error, OSError) else _system_error(error)
        if cause is None:
            raise
        try:
            resumable = bool(checkpoints(folder))
        except InputError:
            resumable = False
        then = f"continue with: sfumato train --resume {folder.parent}" if resumable else "start again"
        remedy = _REMEDIES.get(cause.errno or 0, "check the disk")
        kind = DiskFullError if cause.errno in _FULL else InputError
        raise kind(f"{target}: cannot write ({cause.strerror}); {remedy}, then {then}") from error


def _system_error(error: SafetensorError) -> OSError | None:
    """The system's error that a safetensors error describes in words, or None."""
    found = re.search(r"(?:os error|code:) (\d+)", str(error))
    if not found:
        return None
    code = int(found[1])
    return OSError(code, os.strerror(code), None, code)  # Windows takes its own codes from the fourth argument


def _make(folder: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        flush_folder(path.parent)


def _move_aside(path: Path) -> Path:
    """Rename a damaged checkpoint so that it no longer counts, and return its new path."""
    stem = candidate = path.with_name(path.name + ".damaged")
    n = 2
    while candidate.exists():
        candidate, n = stem.with_name(f"{stem.name}-{n}"), n + 1
    return path.rename(candidate)


def _score(path: Path) -> float | None:
    try:
        state = read_json(path / STATE)
    except NoPermissionError:  # it is kept or deleted by its age
        return None
    score = None if isinstance(state, str) else state.get("score")
    return float(score) if isinstance(score, (int, float)) and not isinstance(score, bool) else None


def _joined(ranks: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors from their slices along dimension 0, by rank; one without dimensions is that of the first process."""
    slices: dict[str, list[Tensor]] = {}
    for tensors in ranks:
        for key, value in tensors.items():
            slices.setdefault(key, []).append(value)
    return {key: values[0] if values[0].ndim == 0 else torch.cat(values) for key, values in slices.items()}
