"""A run folder as its report reads it: config, measurements, gallery, results. Nothing here opens a model.

Only ``config.json`` must be there and right. What else is damaged becomes a sentence in ``problems``, and the report
does without it: a page about an interrupted run is worth more than none.
"""

import json
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from sfumato.core import Process
from sfumato.data.spec import DataSpec
from sfumato.errors import InputError
from sfumato.recipes import Recipe
from sfumato.recipes.reading import validate

from .images import Values

_LEARNED = "schedule."  # the prefix of a learned schedule's tensors

FORMAT = 2
# What leads each array of a gallery before one sample's own axes; the rest are lists of numbers.
_SAMPLES = {"samples": 1, "real": 1, "neighbours": 1, "trajectory_x": 2, "trajectory_x_0": 2}
_NUMBERS = ("distances", "held_out_distances", "trajectory_t", "trajectory_logsnr")

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What a run folder says. Rows of ``metrics.jsonl`` are sorted by kind; ``stop`` is None while a run goes on.

    ``process`` is None for a hierarchical VAE, which has none; ``loss`` says what its loss is, for an axis.
    ``average`` tells which average of the weights is the model. ``gallery`` holds the arrays of ``gallery.npz`` that
    are there and fit the data contract; ``results`` are (label, value) pairs; ``problems`` are sentences about files
    that could not be read.
    """

    folder: Path
    config: dict[str, Any]
    spec: DataSpec
    process: Process | None
    loss: str
    train: list[Row]
    held_out: list[Row]
    average: Row | None
    stop: Row | None
    gallery: dict[str, Values]
    sampler: dict[str, Any]
    results: list[tuple[str, str]]
    problems: list[str]


def read_run(folder: Path) -> Run:
    """The run in ``folder``.

    Raises InputError when there is no ``config.json``, when it is not JSON, of another format, or lacks a part, and
    when its recipe or data contract is not valid.
    """
    config = _config(folder / "config.json")
    problems: list[str] = []
    spec = DataSpec.from_dict(config["data"])
    rows = _rows(folder / "metrics.jsonl", problems)
    recipe = validate(config["recipe"], where=str(folder / "config.json"))
    return Run(
        folder=folder,
        config=config,
        spec=spec,
        process=_process(folder, recipe) if recipe.has_process else None,
        loss="negative ELBO, nats per dimension" if recipe.loss_is_bound else "loss",
        train=[row for row in rows if row["kind"] == "train"],
        held_out=[row for row in rows if row["kind"] == "held_out"],
        average=next((row for row in reversed(rows) if row["kind"] == "average" and _bounds(row)), None),
        stop=next((row for row in reversed(rows) if row["kind"] == "stop"), None),
        gallery=_gallery(folder / "gallery.npz", spec, problems),
        sampler=_object(folder / "gallery.json", problems),
        results=_results(_object(folder / "results.json", problems), problems),
        problems=problems,
    )


def series(rows: list[Row], key: str) -> npt.NDArray[np.float64]:
    """``key`` of each row as float64, NaN where a row has no number there."""
    return np.array([number(row, key) for row in rows], dtype=np.float64)


def _bounds(row: Row) -> bool:
    pairs = row.get("bounds")
    return isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, (int, float)) for x in pair) for pair in pairs
    )


def number(row: dict[str, Any], key: str) -> float:
    """``row[key]`` as a float, NaN where it is missing or no number."""
    value = row.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"{path.parent}: no run folder, for it has no config.json; give the folder that training wrote"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); restore it from where the run was made") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        given = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise InputError(f"{path}: format {given!r} is not {FORMAT}; use the version of sfumato that wrote it")
    for key in ("recipe", "data"):
        if not isinstance(config.get(key), dict):
            raise InputError(f"{path}: no {key!r} section; restore the file from where the run was made")
    return config


def _rows(path: Path, problems: list[str]) -> list[Row]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows, damaged = [], 0
    for k, line in enumerate(lines):
        row = _parsed(line)
        if isinstance(row, dict) and isinstance(row.get("kind"), str):
            rows.append(row)
        elif line.strip() and k < len(lines) - 1:  # a killed process leaves half a last line
            damaged += 1
    if damaged:
        problems.append(f"metrics.jsonl: {damaged} of {len(lines)} lines could not be read and are left out.")
    return rows


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _object(path: Path, problems: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value = _parsed(path.read_text(encoding="utf-8", errors="replace"))
    if isinstance(value, dict):
        return value
    problems.append(f"{path.name}: not a JSON object, so it is left out.")
    return {}


def _results(content: dict[str, Any], problems: list[str]) -> list[tuple[str, str]]:
    rows = content.get("rows", [])
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"label", "value"} <= row.keys() for row in rows
    ):
        problems.append('results.json: "rows" is not a list of objects with a label and a value, so it is left out.')
        return []
    return [(str(row["label"]), str(row["value"])) for row in rows]


def _gallery(path: Path, spec: DataSpec, problems: list[str]) -> dict[str, Values]:
    if not path.is_file():
        return {}
    found: dict[str, Values] = {}
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not a zip archive")
        # Opened here, for np.load leaves a file that it cannot read open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            for name in [name for name in arrays.files if name in {*_SAMPLES, *_NUMBERS}]:
                found[name] = arrays[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        problems.append(f"gallery.npz could not be read ({error}). Delete it, and 'sfumato report' draws a new one.")
        return {}
    for name, array in list(found.items()):
        leading = _SAMPLES.get(name, 1)
        shape = tuple(spec.shape) if name in _SAMPLES else ()
        if array.dtype.kind not in "biuf" or array.shape[leading:] != shape or array.ndim != leading + len(shape):
            problems.append(f"gallery.npz: {name} of shape {array.shape} does not fit this data, so it is left out.")
            del found[name]
        elif array.size == 0:
            del found[name]
        elif name.endswith("distances") and not np.isfinite(array).all():
            problems.append(f"gallery.npz: {name} are not all finite, so they are left out.")
            del found[name]
    return found


def _process(folder: Path, recipe: Recipe) -> Process:
    """The process as it is now: the numbers of a schedule that is learned are among the weights."""
    process, weights = recipe.build_process(), folder / "model.safetensors"
    if isinstance(process.schedule, nn.Module) and weights.exists():
        try:
            learned = {name: value for name, value in load_file(weights).items() if name.startswith(_LEARNED)}
            process.schedule.load_state_dict({name.removeprefix(_LEARNED): value for name, value in learned.items()})
        except (SafetensorError, OSError, RuntimeError):  # damaged weights are no reason to show no report
            return recipe.build_process()
    return process
