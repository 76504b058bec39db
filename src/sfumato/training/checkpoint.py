"""Checkpoints: a folder of safetensors and JSON with a manifest of digests, whole or not there at all.

A checkpoint is written beside its place, each file flushed to the disk, the manifest last; then the folder is renamed
and its parent flushed, and only then are older ones deleted. Neither safetensors nor torch notices a flipped bit, so
loading compares every digest, and a damaged folder is moved aside, with a message, for the one before it.
"""

import errno
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sfumato._version import __version__
from sfumato.errors import InputError
from sfumato.files import beside, digest, flush, flush_folder, sweep
from sfumato.world import ALONE, World

FORMAT = 1  # of a checkpoint; raised when an older reader could misread a newer one
MANIFEST = "manifest.json"
STATE = "state.json"

Parts = Mapping[str, Mapping[str, Tensor]]

_SLICE = re.compile(r"(.+)-([0-9]+)-of-([0-9]+)")  # the stem of the file of one process among several
_MENDS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "make it writable"),
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
}


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay: the ``last`` ones, and those below.

    With ``every``, the first at or after each multiple of so many images, for ever; with ``best``, the one of the
    lowest finite ``state["score"]``, the first of equals. Raises InputError for numbers below 1.
    """

    last: int = 2
    every: int | None = None
    best: bool = True

    def __post_init__(self) -> None:
        if self.last < 1 or (self.every is not None and self.every < 1):
            raise InputError(f"Keep: last={self.last}, every={self.every}; give at least 1")

    def kept(self, scores: Mapping[int, float | None]) -> set[int]:
        """Those to keep of checkpoints at these images, each with its score."""
        order = sorted(scores)
        kept = set(order[-self.last :])
        if self.every is not None:
            first = {images // self.every: images for images in reversed(order)}
            kept |= {images for multiple, images in first.items() if multiple > 0}
        finite = {images: score for images in order if (score := scores[images]) is not None and math.isfinite(score)}
        if self.best and finite:
            kept.add(min(finite, key=finite.__getitem__))
        return kept


def save(
    folder: Path,
    images: int,
    parts: Parts,
    state: Mapping[str, Any],
    keep: Keep = Keep(),
    then: Callable[[], None] | None = None,
    world: World = ALONE,
) -> Path:
    """Write the named ``parts`` and the JSON ``state`` as ``folder``/000000012800, call ``then``, and return its path.

    A whole checkpoint of the same count is left as it is; a damaged one is moved aside. The processes of a ``world``
    write their slices (``write_parts``), each a file; the first does all else. Raises InputError when the disk is full
    or refuses, on all processes; whatever is raised, what was there before is whole and nothing half written stays.
    """
    place = _place(folder, images)
    stump = None
    try:
        with world.raise_together():
            if world.is_main and damage(place) is not None:
                stump = begin(folder, images)
        if told := world.gather_text(str(stump or ""))[0]:
            digests: dict[str, str] = {}
            with world.raise_together():
                digests = write_parts(Path(told), parts, world.rank, world.size)
            written = [json.loads(text) for text in world.gather_text(json.dumps(digests))]
            with world.raise_together():
                if stump is not None:
                    finish(stump, state, {name: text for files in written for name, text in files.items()}, keep)
    finally:
        if stump is not None:
            shutil.rmtree(stump, ignore_errors=True)
    if then is not None and world.is_main:
        with _told(folder.parent, folder):
            then()
    return place


def begin(folder: Path, images: int) -> Path:
    """The folder, made beside its place, to write a checkpoint into; the stumps of killed processes are removed.

    One process calls it. Raises InputError when the disk refuses.
    """
    with _told(folder, folder):
        _make(folder)
        sweep(folder)
        stump = beside(_place(folder, images))
        stump.mkdir()
    return stump


def write_parts(stump: Path, parts: Parts, rank: int = 0, size: int = 1) -> dict[str, str]:
    """Write the tensors of process ``rank`` of ``size`` into what ``begin`` made; return the digests of its files.

    Each process writes its slice of every tensor along dimension 0; what is not sliced is written by rank 0 alone, or
    has no dimensions. Raises InputError when the disk refuses.
    """
    suffix = "" if size == 1 else f"-{rank}-of-{size}"
    digests = {}
    with _told(stump.parent, stump.parent):
        for name, tensors in parts.items():
            file = stump / f"{name}{suffix}.safetensors"
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, file)
            flush(file)
            digests[file.name] = digest(file)
    return digests


def finish(
    stump: Path,
    state: Mapping[str, Any],
    digests: Mapping[str, str],
    keep: Keep = Keep(),
) -> Path:
    """Put what ``begin`` made in its place, with the ``digests`` of all processes; delete what ``keep`` does not name.

    One process calls it, after all others have written. Raises InputError when the disk refuses.
    """
    folder, name = stump.parent, stump.name.split("-")[1]
    images, place = int(name), folder / name
    with _told(folder, folder):
        _write_json(stump / STATE, {**state, "format": FORMAT, "images": images})
        _write_json(stump / MANIFEST, dict(sorted({**digests, STATE: digest(stump / STATE)}.items())))
        flush_folder(stump)
        if place.exists():
            if damage(place) is None:
                shutil.rmtree(stump)
                return place
            _aside(place)
        os.rename(stump, place)
        flush_folder(folder)
        # Later ones are damaged and could not be moved: they neither count nor push out the one just written.
        before = {int(old.name): old for old in checkpoints(folder) if int(old.name) <= images}
        kept = keep.kept({count: _score(old) for count, old in before.items()})
        for count in before.keys() - kept:
            delete(before[count])
    return place


def newest(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint in ``folder``, or None; damaged ones are moved aside, with a line to ``warn``.

    Raises InputError for a folder that cannot be read, and for a whole checkpoint of a newer format.
    """
    for place in reversed(checkpoints(folder)):
        problem = damage(place)
        if problem is None:
            _check_format(place)
            return place
        try:
            done = f"moved aside to {_aside(place).name}"
        except OSError as error:
            done = f"passed over, as it cannot be moved aside: {error.strerror}"
        warn(f"{place}: damaged ({problem}); {done}, going on from the one before it")
    return None


def load(place: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The parts and the state of a whole checkpoint; slices of several processes are put together in their order.

    Raises InputError, one line, for a file that is not what its name says, and for a newer format.
    """
    state = _check_format(place)
    read: dict[str, dict[int, dict[str, Tensor]]] = {}
    for file in sorted(place.glob("*.safetensors")):
        try:
            tensors = load_file(file)
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(
                f"{file}: damaged or not safetensors ({error}); delete {place} to go on from the one before it"
            ) from None
        name, rank, _ = _sliced(file.stem)
        read.setdefault(name, {})[rank] = tensors
    return {name: _joined([tensors for _, tensors in sorted(ranks.items())]) for name, ranks in read.items()}, state


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in ``folder``, oldest first, whole or not. Raises InputError where it cannot be read."""
    try:
        names = [name for name in os.listdir(folder) if re.fullmatch("[0-9]+", name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be read ({error.strerror}); it is to be a folder that you may read"
        ) from None
    return sorted((folder / name for name in names if (folder / name).is_dir()), key=lambda place: int(place.name))


def damage(place: Path) -> str | None:
    """What is wrong with a checkpoint: the first file missing, unlisted or changed; None when it is whole."""
    try:
        with os.scandir(place) as entries:
            plain = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    except OSError as error:
        return error.strerror or str(error)
    digests = _read_json(place / MANIFEST) if plain.get(MANIFEST) else f"{MANIFEST} is missing"
    if isinstance(digests, str):
        return digests
    for name in sorted({*digests, *plain} - {MANIFEST}):
        if name not in plain:
            return f"{name} is missing"
        if name not in digests:
            return f"{name} is not in the manifest"
        if not plain[name]:  # a link leads out of the folder, a pipe nowhere
            return f"{name} is not a plain file"
        try:
            if digest(place / name) != digests[name]:
                return f"{name} has changed since it was written"
        except OSError as error:
            return f"{name}: {error.strerror}"
    state = _read_json(place / STATE) if STATE in plain else f"{STATE} is missing"
    if isinstance(state, str):
        return state
    if type(state.get("images")) is not int or type(state.get("format", FORMAT)) is not int:
        return f"{STATE} does not say how many images were seen"
    if place.name != _place(place.parent, state["images"]).name:
        return f"{STATE} is of another checkpoint, after {state['images']} images"
    return _missing_slices(digests)


@contextmanager
def _told(target: Path, folder: Path) -> Iterator[None]:
    """What the disk refuses, told in one line with the mend. ``folder`` is that of the checkpoints."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        cause = error if isinstance(error, OSError) else _disk(error)
        if cause is None:
            raise
        try:
            resumable = bool(checkpoints(folder))
        except InputError:
            resumable = False
        then = f"go on with: sfumato train --resume {folder.parent}" if resumable else "start again"
        mend = _MENDS.get(cause.errno or 0, "see to the disk")
        raise InputError(f"{target}: cannot write ({cause.strerror}); {mend}, then {then}") from error


def _disk(error: SafetensorError) -> OSError | None:
    """The system's error that safetensors tells of in words, where it tells of one."""
    found = re.search(r"(?:os error|code:) (\d+)", str(error))
    if not found:
        return None
    code = int(found[1])
    return OSError(code, os.strerror(code), None, code)  # Windows takes its own codes from the fourth


def _place(folder: Path, images: int) -> Path:
    return folder / f"{images:012d}"


def _make(folder: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        flush_folder(path.parent)


def delete(place: Path) -> None:
    """Remove a checkpoint. Renamed first, a half-deleted one is never seen; a killed process leaves a stump of it."""
    stump = beside(place)
    os.rename(place, stump)
    shutil.rmtree(stump, ignore_errors=True)


def _aside(place: Path) -> Path:
    """Rename a damaged checkpoint so that it counts no more, and return its new path."""
    path = candidate = place.with_name(place.name + ".damaged")
    n = 2
    while candidate.exists():
        candidate, n = path.with_name(f"{path.name}-{n}"), n + 1
    return place.rename(candidate)


def _write_json(file: Path, data: Any) -> None:
    file.write_bytes(_json(data))
    flush(file)


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=2) + "\n").encode()


def _read_json(file: Path) -> dict[str, Any] | str:
    """The object in a file that ``_write_json`` wrote, or what is wrong with it."""
    try:
        text = file.read_bytes()
        data = json.loads(text)
    except OSError as error:
        return f"{file.name}: {error.strerror}"
    except (ValueError, RecursionError):
        return f"{file.name} is not JSON"
    if not isinstance(data, dict):
        return f"{file.name} is not a JSON object"
    if text != _json(data):  # no digest guards the manifest, but it has one spelling only
        return f"{file.name} has changed since it was written"
    return data


def _check_format(place: Path) -> dict[str, Any]:
    """The state of a whole checkpoint, unless its format is newer than this reader."""
    state = _read_json(place / STATE)
    if isinstance(state, str):
        raise InputError(f"{place}: damaged ({state}); delete it to go on from the one before it")
    if (found := state.pop("format", FORMAT)) > FORMAT:
        raise InputError(
            f"{place / STATE}: a checkpoint of format {found}, and this Sfumato {__version__} reads {FORMAT}; "
            "upgrade Sfumato"
        )
    return state


def _score(place: Path) -> float | None:
    state = _read_json(place / STATE)
    score = None if isinstance(state, str) else state.get("score")
    return float(score) if isinstance(score, (int, float)) and not isinstance(score, bool) else None


def _sliced(stem: str) -> tuple[str, int, int]:
    """(part, rank, size) of a file."""
    found = _SLICE.fullmatch(stem)
    return (found[1], int(found[2]), int(found[3])) if found else (stem, 0, 1)


def _missing_slices(names: Iterable[str]) -> str | None:
    present: dict[str, list[tuple[int, int]]] = {}
    for name in sorted(names):
        if name.endswith(".safetensors"):
            part, rank, size = _sliced(name.removesuffix(".safetensors"))
            present.setdefault(part, []).append((rank, size))
    for part, found in present.items():
        size = found[0][1]
        if len(found) != size or sorted(found) != [(rank, size) for rank in range(size)]:
            return f"{part} is not whole: it has slices {', '.join(f'{rank} of {of}' for rank, of in sorted(found))}"
    return None


def _joined(ranks: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors from their slices along dimension 0, by rank; one without dimensions is the first process's."""
    slices: dict[str, list[Tensor]] = {}
    for tensors in ranks:
        for key, value in tensors.items():
            slices.setdefault(key, []).append(value)
    return {key: values[0] if values[0].ndim == 0 else torch.cat(values) for key, values in slices.items()}
