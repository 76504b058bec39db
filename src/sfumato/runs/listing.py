"""The runs below a folder, with what is known of each. No model is opened."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sfumato.errors import InputError
from sfumato.files import digest
from sfumato.reporting import duration

from .folder import RunFolder
from .settings import RunsSettings

_INSIDE = {"checkpoints", "averages", "tensorboard", "samples", "tuning", "figures"}  # of a run, without runs in them
_TAIL = 65536  # bytes of the record of training that are read


@dataclass(frozen=True)
class Listed:
    """A run at a glance.

    Arguments:
        run: its folder, below the one that was listed.
        data: the source that it was trained on.
        recipe: its recipe.
        goal: the budget or number of steps that it was given.
        images: training images seen.
        seconds: seconds of training.
        stopped: why training ended; None while it goes on, or after it was killed.
        bound: bits per dimension of the bound, if it was measured with these weights.
        quality: the lesser of Clipped Density and Clipped Coverage, if they were measured with these weights.
        date: when it was last changed, in local time, as ISO 8601 writes it.
        problem: why the run cannot be used, if so.
    """

    run: str
    data: str | None
    recipe: str | None
    goal: str | None
    images: int | None
    seconds: float | None
    stopped: str | None
    bound: float | None
    quality: float | None
    date: str
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The run as --json prints it."""
        return asdict(self)


def listed(settings: RunsSettings) -> list[Listed]:
    """The runs below ``settings.folder``, in the order of ``settings.sort``; what is not known comes last."""
    found = [_listed(path, settings.folder) for path in _runs(settings.folder)]
    found.sort(key=lambda each: each.date, reverse=True)
    key, descending = _ORDERS[settings.sort]
    known = [each for each in found if key(each) is not None]
    known.sort(key=key, reverse=descending)
    return known + [each for each in found if key(each) is None]


_ORDERS: dict[str, tuple[Callable[[Listed], Any], bool]] = {
    "date": (lambda each: each.date, True),
    "run": (lambda each: each.run, False),
    "data": (lambda each: each.data, False),
    "recipe": (lambda each: each.recipe, False),
    "budget": (lambda each: each.seconds, True),
    "bound": (lambda each: each.bound, False),
    "quality": (lambda each: each.quality, True),
}


def lines(found: list[Listed], folder: Path) -> list[str]:
    """The list as a table."""
    if not found:
        return [f"no runs below {folder}; 'sfumato train SOURCE' makes one"]
    rows: list[tuple[str, ...]] = [("run", "data", "recipe", "budget", "trained", "bound", "quality", "date")]
    rows += [_cells(each) for each in found]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return table + [f"{each.run}: {each.problem}" for each in found if each.problem]


def _cells(each: Listed) -> tuple[str, ...]:
    trained = "-" if each.seconds is None else duration(each.seconds)
    return (
        each.run,
        "-" if each.data is None else Path(each.data).name,
        each.recipe or "-",
        each.goal or "-",
        trained if each.stopped or each.seconds is None else f"{trained} (not ended)",
        "-" if each.bound is None else f"{each.bound:.3f}",
        "-" if each.quality is None else f"{each.quality:.2f}",
        each.date[:16].replace("T", " "),
    )


def _runs(folder: Path) -> Iterator[RunFolder]:
    for path, inside, files in os.walk(folder):
        inside[:] = sorted(name for name in inside if name not in _INSIDE and not name.startswith("."))
        if {"run.json", "config.json"} <= set(files):
            yield RunFolder(Path(path))


def _listed(folder: RunFolder, above: Path) -> Listed:
    changed = max(
        path.stat().st_mtime for path in (folder.config_file, folder.metrics, folder.weights) if path.exists()
    )
    images, seconds, stopped = _progress(folder)
    data = recipe = goal = problem = None
    try:
        origin = folder.origin()
        data, goal = origin.source, None if origin.goal is None else str(origin.goal)
        recipe = folder.recipe().name
    except InputError as error:
        problem = str(error)
    return Listed(
        run=folder.path.relative_to(above).as_posix(),
        data=data,
        recipe=recipe,
        goal=goal,
        images=images,
        seconds=seconds,
        stopped=stopped,
        bound=_bound(_current(folder, "likelihood")),
        quality=_quality(_current(folder, "evaluation")),
        date=datetime.fromtimestamp(changed).astimezone().isoformat(timespec="seconds"),
        problem=problem,
    )


def _progress(folder: RunFolder) -> tuple[int | None, float | None, str | None]:
    """Images seen, seconds of training, and why it ended: from the last complete line of the record of training."""
    if not folder.metrics.is_file():
        return None, None, None
    with folder.metrics.open("rb") as file:
        file.seek(max(folder.metrics.stat().st_size - _TAIL, 0))
        tail = file.read().decode("utf-8", "replace").splitlines()
    for line in reversed(tail):
        try:
            row = json.loads(line)
            images, seconds = int(row["images"]), float(row["seconds"])
        except (ValueError, KeyError, TypeError):
            continue
        return images, seconds, str(row.get("reason")) if row.get("kind") == "stop" else None
    return None, None, None


def _current(folder: RunFolder, name: str) -> dict[str, Any]:
    """A measurement of the weights that the folder holds now; empty if there is none."""
    try:
        record = folder.measurement(name) or {}
    except InputError:
        return {}
    weights = record.get("weights")
    if isinstance(weights, str) and folder.weights.is_file() and digest(folder.weights) != weights:
        return {}
    return record


def _bound(record: dict[str, Any]) -> float | None:
    bound = record.get("bound")
    value = bound.get("bits_per_dim") if isinstance(bound, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _quality(record: dict[str, Any]) -> float | None:
    """The lesser of Clipped Density and Clipped Coverage in the first space that has both."""
    rows = record.get("rows")
    found: dict[str, list[float]] = {"clipped_density": [], "clipped_coverage": []}
    for row in rows if isinstance(rows, list) else []:
        name, value = (row.get("name"), row.get("value")) if isinstance(row, dict) else (None, None)
        if name in found and isinstance(value, int | float):
            found[name].append(float(value))
    return min(values[0] for values in found.values()) if all(found.values()) else None
