"""A run as its report shows it: recipe, measurements, gallery, results. Nothing here opens a model.

Only ``config.json`` must exist and be valid. Other damaged files become sentences in ``problems``, and the report
leaves them out: a page about an interrupted run is worth more than none.
"""

import json
import math
import shlex
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from sfumato.core import Process
from sfumato.data.spec import DataSpec
from sfumato.errors import InputError, NoPermissionError
from sfumato.files import digest
from sfumato.recipes import Recipe
from sfumato.runs.folder import Outcome, RunFolder

from .arrays import read_arrays
from .image_grid import Values

_LEARNED = "schedule."  # prefix of the tensors of a learned schedule

# Axes of each array of a gallery before those of a sample; the others are lists of numbers.
_SAMPLES = {"samples": 1, "real": 1, "neighbours": 1, "trajectory_x": 2, "trajectory_x_0": 2}
_NUMBERS = ("distances", "held_out_distances", "trajectory_t", "trajectory_logsnr")

_MEASURED = ("evaluation", "likelihood", "certify", "certify-reconstruction")

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """The content of a run folder.

    Arguments:
        folder: the folder.
        recipe: its recipe.
        spec: the data contract.
        version: of Sfumato, which wrote it.
        num_parameters: of the model, NaN if unknown.
        process: None for a model without one.
        train: rows of ``metrics.jsonl`` about training steps.
        held_out: rows about measurements on held-out data.
        average: the last row about averages of the weights, if there is one.
        stop: the last row about the end of training; None while it continues.
        gallery: the arrays of ``gallery.npz`` that exist and fit the data contract.
        sampler: how the samples of the gallery were drawn.
        results: pairs of a label and a value.
        measured: what was measured of the present weights, by name ("evaluation", "likelihood", "certify",
            "certify-reconstruction").
        outcomes: what was made from measurements with the present weights, oldest first.
        pairs: the arrays of ``evaluation.npz``: pairs that look most like copies.
        problems: sentences about files that could not be read.
    """

    folder: RunFolder
    recipe: Recipe
    spec: DataSpec
    version: str
    num_parameters: int | float
    process: Process | None
    train: list[Row]
    held_out: list[Row]
    average: Row | None
    stop: Row | None
    gallery: dict[str, Values]
    sampler: dict[str, Any]
    results: list[tuple[str, str]]
    measured: dict[str, dict[str, Any]]
    outcomes: list[Outcome]
    pairs: dict[str, Values]
    problems: list[str]

    @property
    def noun(self) -> str:
        """The noun for the data that training sees: "images" or "samples"."""
        return self.spec.layout.noun

    @property
    def loss_name(self) -> str:
        """The loss, for an axis."""
        return "negative ELBO, nats per dimension" if self.recipe.loss_is_bound else "loss"

    def command(self, verb: str, flags: str = "") -> str:
        """HTML of the command line that applies ``verb``, such as "report" or "train --resume", to this run."""
        path = self.folder.path
        # An absolute path would show readers of the page how the author's machine is laid out.
        return (
            f"<code>sfumato {verb} {escape(shlex.quote(path.name if path.is_absolute() else str(path)))}{flags}</code>"
        )

    def best_held_out(self) -> Row | None:
        """The held-out row with the lowest finite loss."""
        measured = [row for row in self.held_out if math.isfinite(number(row, "loss"))]
        return min(measured, key=lambda row: number(row, "loss"), default=None)


def read_run(folder: RunFolder) -> Run:
    """Read a run.

    Raises:
        InputError: ``config.json`` is missing, not JSON, of another format, or has an invalid recipe or data contract.
    """
    config = folder.config()
    recipe, spec = config.recipe, config.spec
    problems: list[str] = []
    rows = _rows(folder, problems)
    measured = _measured(folder, problems)
    return Run(
        folder=folder,
        recipe=recipe,
        spec=spec,
        version=config.version,
        num_parameters=config.parameters,
        process=_process(folder, recipe) if recipe.has_process else None,
        train=[row for row in rows if row["kind"] == "train"],
        held_out=[row for row in rows if row["kind"] == "held_out"],
        average=next((row for row in reversed(rows) if row["kind"] == "average" and is_pairs(row.get("bounds"))), None),
        stop=next((row for row in reversed(rows) if row["kind"] == "stop"), None),
        gallery=_gallery(folder, spec, problems),
        sampler=_measurement(folder, "gallery", problems),
        results=_results(_measurement(folder, "results", problems), problems),
        measured=measured,
        outcomes=_outcomes(folder, problems),
        pairs=_pairs(folder, spec, measured, problems),
        problems=problems,
    )


def series(rows: list[Row], key: str) -> npt.NDArray[np.float64]:
    """``key`` of each row as float64, NaN where a row has no number there."""
    return np.array([number(row, key) for row in rows], dtype=np.float64)


def number(row: dict[str, Any], key: str) -> float:
    """``row[key]`` as a float, NaN where it is missing or not a number."""
    value = row.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def is_pairs(value: object) -> bool:
    """Whether ``value`` is a list of pairs of numbers."""
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, (int, float)) for x in pair) for pair in value
    )


def _rows(folder: RunFolder, problems: list[str]) -> list[Row]:
    if not folder.metrics.is_file():
        return []
    lines = folder.metrics.read_text(encoding="utf-8", errors="replace").splitlines()
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


def _measurement(folder: RunFolder, name: str, problems: list[str]) -> dict[str, Any]:
    try:
        return folder.measurement(name) or {}
    except NoPermissionError:
        problems.append(f"{name}.json: may not be read, so it is left out.")
        return {}
    except InputError:
        problems.append(f"{name}.json: not a JSON object, so it is left out.")
        return {}


def _measured(folder: RunFolder, problems: list[str]) -> dict[str, dict[str, Any]]:
    """What was measured of the weights that the folder holds now."""
    found = {name: record for name in _MEASURED if (record := _measurement(folder, name, problems))}
    named = [name for name, record in found.items() if isinstance(record.get("weights"), str)]
    present = digest(folder.weights) if named and folder.weights.is_file() else None
    for name in named:
        if found[name]["weights"] != present:
            problems.append(f"{name}.json: measured with former weights, so it is left out; measure again.")
            del found[name]
    return found


def _outcomes(folder: RunFolder, problems: list[str]) -> list[Outcome]:
    """What was made with the weights that the folder holds now."""
    found = folder.outcomes()
    present = digest(folder.weights) if found and folder.weights.is_file() else None
    former = [each.folder.name for each in found if each.record.get("weights") != present]
    if former:
        problems.append(f"{', '.join(former)}: made with former weights, so left out.")
    return [each for each in found if each.folder.name not in former]


def _results(content: dict[str, Any], problems: list[str]) -> list[tuple[str, str]]:
    rows = content.get("rows", [])
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"label", "value"} <= row.keys() for row in rows
    ):
        problems.append('results.json: "rows" is not a list of objects with a label and a value, so it is left out.')
        return []
    return [(str(row["label"]), str(row["value"])) for row in rows]


def _gallery(folder: RunFolder, spec: DataSpec, problems: list[str]) -> dict[str, Values]:
    again = "Delete it, and 'sfumato report' draws a new one."
    return read_arrays(folder.gallery, _SAMPLES, _NUMBERS, spec, again, problems)


def _pairs(
    folder: RunFolder, spec: DataSpec, measured: dict[str, dict[str, Any]], problems: list[str]
) -> dict[str, Values]:
    """The pairs that belong to the numbers; none where these are of former weights."""
    if "evaluation" not in measured:
        return {}
    again = "'sfumato evaluate' writes it again."
    return read_arrays(folder.evaluation, {"samples": 1, "neighbours": 1}, ("ratios",), spec, again, problems)


def _process(folder: RunFolder, recipe: Recipe) -> Process:
    """The process, with the learned numbers of its schedule, which are among the weights."""
    process = recipe.build_process()
    if isinstance(process.schedule, nn.Module) and folder.weights.exists():
        try:
            learned = {name: value for name, value in load_file(folder.weights).items() if name.startswith(_LEARNED)}
            process.schedule.load_state_dict({name.removeprefix(_LEARNED): value for name, value in learned.items()})
        except (SafetensorError, OSError, RuntimeError):  # damaged weights are no reason to show no report
            return recipe.build_process()
    return process
