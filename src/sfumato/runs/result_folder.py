"""One folder with all results of a command: arrays, a record with the settings, and a figure."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import InputError
from sfumato.files import reach, strict_json, sweep, temporary
from sfumato.model_folder import weights_digest

from .outputs import require_writable_run
from .settings import (
    DenoiseSettings,
    DesignSettings,
    InpaintSettings,
    InterpolateSettings,
    NextSettings,
    ReconstructSettings,
)

OfRun = (
    DenoiseSettings | DesignSettings | InpaintSettings | InterpolateSettings | NextSettings | ReconstructSettings
)  # settings of a command that uses the model in ``run``


def new_folder(out: Path | None, run: Path, name: str) -> Path:
    """The folder to write, ``out`` or ``name`` in the run.

    Raises InputError if it exists or cannot be made.
    """
    folder = out or run / name
    if reach(folder) and folder.exists():
        raise InputError(f"--out {folder}: exists; give another folder, or remove it")
    require_writable_run(folder.parent, "give --out")
    return folder


def stated(settings: OfRun, **found: Any) -> dict[str, Any]:
    """The command, its settings with those that were found out, and the digest of the weights, for a record."""
    return {
        "command": settings.command(),
        "settings": {**{k: _plain(v) for k, v in asdict(settings).items()}, **found},
        "weights": weights_digest(settings.run),
    }


def write_results(
    folder: Path,
    name: str,
    arrays: Mapping[str, NDArray[Any]],
    record: Mapping[str, Any],
    save_figure: Callable[[Path], object],
) -> list[Path]:
    """Write ``name``.npz, ``name``.png and result.json into a folder of another name, and rename it."""
    sweep(folder.parent, folder.name)
    beside = temporary(folder)
    beside.mkdir(parents=True)
    try:
        np.savez_compressed(beside / f"{name}.npz", allow_pickle=False, **arrays)
        (beside / "result.json").write_text(strict_json(record, indent=2) + "\n", encoding="utf-8")
        save_figure(beside / f"{name}.png")
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return sorted(folder.iterdir())


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
