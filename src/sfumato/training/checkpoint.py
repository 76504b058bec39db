"""Checkpoints: a folder of safetensors and JSON with a manifest of digests, whole or not there at all.

A checkpoint is written beside its place, each file flushed to the disk, the manifest last; then the folder is renamed
and its parent flushed. Neither safetensors nor torch notices a flipped bit, so loading compares every digest, and a
damaged folder is moved aside, with a message, for the one before it.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sfumato.files import digest

MANIFEST = "manifest.json"

Parts = Mapping[str, Mapping[str, Tensor]]


def save(folder: Path, images: int, parts: Parts, state: Mapping[str, Any], keep: int = 2) -> Path:
    """Write the named ``parts`` and the JSON ``state`` as ``folder``/000000012800; keep the last ``keep`` checkpoints.

    Returns its path. A whole checkpoint of the same count is left as it is; a damaged one is moved aside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{images:012d}"
    if place.exists():
        if damage(place) is None:
            return place
        _aside(place)
    for stump in folder.glob(".writing-*"):  # of a process that was killed
        shutil.rmtree(stump)
    beside = folder / f".writing-{place.name}-{os.getpid()}"
    beside.mkdir()
    try:
        for name, tensors in parts.items():
            file = beside / f"{name}.safetensors"
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, file)
            _flush(file)
        _write_json(beside / "state.json", state)
        digests = {file.name: digest(file) for file in sorted(beside.iterdir())}
        _write_json(beside / MANIFEST, digests)
        _flush(beside)
        os.rename(beside, place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    _flush(folder)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return place


def newest(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint in ``folder``, or None; damaged ones are moved aside, with a line to ``warn``."""
    for place in reversed(checkpoints(folder)):
        problem = damage(place)
        if problem is None:
            return place
        warn(f"{place}: damaged ({problem}); moved aside to {_aside(place).name}, going on from the one before it")
    return None


def load(place: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The parts and the state of a whole checkpoint."""
    parts = {file.stem: load_file(file) for file in sorted(place.glob("*.safetensors"))}
    return parts, json.loads((place / "state.json").read_text())


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in ``folder``, oldest first, whole or not."""
    return sorted(place for place in folder.glob("[0-9]*") if place.name.isdigit() and place.is_dir())


def damage(place: Path) -> str | None:
    """What is wrong with a checkpoint: the first file missing, unlisted or changed; None when it is whole."""
    try:
        text = (place / MANIFEST).read_text()
        digests = json.loads(text)
        listed = set(digests)
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, TypeError) as error:
        return f"{MANIFEST}: {error}"
    if text != _json(digests):  # no digest guards the manifest, but it has one spelling only
        return f"{MANIFEST} has changed since it was written"
    present = {file.name for file in place.iterdir()} - {MANIFEST}
    for name in sorted(listed | present):
        if name not in present:
            return f"{name} is missing"
        if name not in listed:
            return f"{name} is not in the manifest"
        try:
            if digest(place / name) != digests[name]:
                return f"{name} has changed since it was written"
        except OSError as error:
            return f"{name}: {error}"
    return None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as named tensors, "index.field"; its settings belong to the recipe."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": torch.as_tensor(value) for i, fields in state.items() for name, value in fields.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of ``optimizer_tensors``, into an optimiser made with the recipe's settings."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        i, _, name = key.partition(".")
        state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _json(data: Any) -> str:
    return json.dumps(data, indent=2) + "\n"


def _write_json(file: Path, data: Any) -> None:
    file.write_text(_json(data))
    _flush(file)


def _flush(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows does not open folders; its rename is journalled
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aside(place: Path) -> Path:
    """Rename a damaged checkpoint so that it counts no more, and return its new path."""
    path = candidate = place.with_name(place.name + ".damaged")
    n = 2
    while candidate.exists():
        candidate, n = path.with_name(f"{path.name}-{n}"), n + 1
    return place.rename(candidate)
