"""Compare recipes on one data set: train and measure each, then rank them."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfumato._version import __version__
from sfumato.data import TOYS, Dataset
from sfumato.errors import BusyError, InputError
from sfumato.evaluation.comparison import Row, Yardstick, standings
from sfumato.files import strict_json, write_text, write_with
from sfumato.recipes import Recipe, budget
from sfumato.recipes.reading import validate
from sfumato.report.charts.compare import comparison_figure
from sfumato.reporting import SILENT, Reporter, duration
from sfumato.training import signals
from sfumato.training.lock import Lock

from . import lifecycle
from .device import pick_device
from .experiment import Experiment, InterruptedTraining
from .folder import RunFolder
from .outputs import require_writable_run
from .planning import planned
from .selection import select
from .settings import CompareSettings, Goal
from .sources import load_data

PLAN = "plan.json"


@dataclass(frozen=True, eq=False)
class Compared:
    """A comparison that has ended.

    Arguments:
        record: what was found, as comparison.json holds it; None if it was interrupted.
        files: the files that were written.
        settings: those that continue or repeat it, with its folder where that is not the default one.
        reason: the signal that ended it, or "done".
    """

    record: dict[str, Any] | None
    files: list[Path]
    settings: CompareSettings
    reason: str = "done"

    @property
    def status(self) -> int:
        """The exit status of a command that did this."""
        return signals.STATUSES.get(self.reason, 0)

    def describe_end(self) -> list[str]:
        """The lines to print when a signal ended the comparison."""
        return [lifecycle.ENDS[self.reason], f"continue with: {self.settings.command()}"]


def compare(settings: CompareSettings, reporter: Reporter = SILENT) -> Compared:
    """Train and measure each recipe, as far as an earlier command has not, and rank them.

    One process at a time compares in a folder. While another does in runs/compare-SOURCE, this one takes the next name.

    Raises:
        BusyError: another process compares in the folder that ``settings`` name.
        InputError: recipes that cannot be compared or do not fit the data, a folder that was started with other
            settings.
    """
    device = pick_device(settings.device)
    recipes = select(settings.recipes, settings.overrides)
    first = next(iter(recipes.values()))
    if settings.out is not None:
        _require_folder(settings.out)  # before the data is read
    require_writable_run(settings.out or Path("runs"), "choose another with --out")
    try:
        dataset = load_data(settings.source, first, reporter)
        name = f"compare-{lifecycle.stem_of(dataset)}"
        with _locked(settings, name, reporter) as folder:
            if folder != Path("runs") / name:
                settings = replace(settings, out=folder)
            try:
                return _compare_in(folder, settings, recipes, dataset, device, reporter)
            except KeyboardInterrupt:
                return Compared(None, [], settings, "interrupted")
            except InterruptedTraining as stopped:
                return Compared(None, [], settings, stopped.reason)
    except KeyboardInterrupt:
        return Compared(None, [], settings, "interrupted")


@contextmanager
def _locked(settings: CompareSettings, name: str, reporter: Reporter) -> Iterator[Path]:
    """The folder of the comparison, in which no other process compares meanwhile.

    Without one in ``settings`` it is runs/NAME, or the first of runs/NAME-2, ... where no other process is at work.
    """
    wanted = settings.out or Path("runs") / name
    folder, n = wanted, 1
    while True:
        _require_folder(folder)
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        with ExitStack() as stack:
            stack.callback(_remove_unused, missing)
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(Lock(RunFolder(folder), "comparing recipes in it"))
            except BusyError:
                if settings.out is not None:
                    raise
                n += 1
                folder = wanted.with_name(f"{wanted.name}-{n}")
                continue
            if n > 1:
                reporter.info(f"another process is comparing recipes in {wanted}; this one takes {folder}")
            yield folder
            return


def _remove_unused(folders: Sequence[Path]) -> None:
    for path in folders:
        with suppress(OSError):  # not empty, so it is in use
            path.rmdir()


def _compare_in(
    folder: Path,
    settings: CompareSettings,
    recipes: dict[str, Recipe],
    dataset: Dataset,
    device: torch.device,
    reporter: Reporter,
) -> Compared:
    plan = _plan(folder, recipes, dataset, settings.goal, device, reporter)
    if plan is not None:
        recipes = {name: budget.shared(recipe, plan) for name, recipe in recipes.items()}
    first = next(iter(recipes.values()))
    experiments = [
        Experiment(name, RunFolder(folder / name), recipe, settings.source, settings.goal, device)
        for name, recipe in recipes.items()
    ]
    for experiment in experiments:  # refuse whatever can be refused before anything is trained
        experiment.check(dataset)
    if plan is not None:
        write_text(folder / PLAN, strict_json(plan.model_dump(mode="json"), indent=2) + "\n")
    toy = settings.source if settings.source in TOYS else None
    training = first.training
    yardstick = Yardstick.of(dataset, training.held_out, training.seed, settings.count, toy)
    threads = torch.get_num_threads()
    rows = _rows(experiments, yardstick, folder, reporter)
    record = {
        "source": dataset.spec.source,
        "data": {
            "samples": len(dataset),
            "train": len(yardstick.train),
            "held_out": len(yardstick.held_out),
            "fingerprint": dataset.spec.fingerprint,
        },
        "goal": settings.goal.to_dict(),
        "settings": list(settings.overrides),
        "seed": yardstick.seed,
        "scored": len(yardstick.rows),
        "scored_samples": yardstick.rows.tolist(),
        "density": dataset.spec.continuous,
        "recipes": list(rows.values()),
        "standings": standings(rows),
        **_circumstances(threads),
    }
    return Compared(record, _write(record, folder, experiments, dataset), settings)


def _plan(
    folder: Path,
    recipes: dict[str, Recipe],
    dataset: Dataset,
    goal: Goal,
    device: torch.device,
    reporter: Reporter,
) -> Recipe | None:
    """A recipe with the numbers that all recipes take which leave them open, so that only formulations differ.

    It is that of an earlier command, if this one continues it. None for a goal in steps.
    """
    if goal.seconds is None:
        return None
    if (folder / PLAN).exists():
        return _kept_plan(folder / PLAN)
    open_size = (recipe for recipe in recipes.values() if len(budget.sizes(recipe, dataset.spec)) > 1)
    return planned(next(open_size, next(iter(recipes.values()))), dataset, goal, device, reporter)


def _kept_plan(file: Path) -> Recipe:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{file}: is damaged; delete the folder, then run the same command again") from None
    return validate(data, where=str(file))


def _require_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: is a file; give a folder, or a name that does not exist")
    if RunFolder(folder).config_file.exists():
        raise InputError(f"--out {folder}: is a run or model itself; give another folder for the runs of a comparison")


def _rows(experiments: Sequence[Experiment], yardstick: Yardstick, folder: Path, reporter: Reporter) -> dict[str, Row]:
    """The row of each experiment; those that are missing are trained and measured."""
    done = {experiment.name: experiment.row(yardstick) for experiment in experiments}
    left = {each.name: each.forecast(yardstick) for each in experiments if done[each.name] is None}
    if left:
        reporter.info(f"comparing {len(experiments)} recipes in {folder}: about {duration(sum(left.values()))}")
    threads = torch.get_num_threads()
    rows: dict[str, Row] = {}
    for i, experiment in enumerate(experiments):
        row = done[experiment.name]
        if row is None:
            rest = duration(sum(left.values()))
            reporter.info(f"{experiment.name}, {i + 1} of {len(experiments)}; about {rest} to go")
            torch.set_num_threads(threads)  # training chooses its own number; each recipe chooses among as many
            try:
                row = experiment.run(yardstick, reporter)
            finally:
                torch.set_num_threads(threads)
            del left[experiment.name]
        rows[experiment.name] = row
    return rows


def _circumstances(threads: int) -> dict[str, Any]:
    return {
        "versions": {"sfumato": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "threads": threads,
    }


def _write(record: dict[str, Any], folder: Path, experiments: Sequence[Experiment], dataset: Dataset) -> list[Path]:
    galleries = {}
    for experiment in experiments:
        if experiment.folder.gallery.exists():
            with np.load(experiment.folder.gallery, allow_pickle=False) as arrays:
                galleries[experiment.name] = arrays["samples"], arrays["real"]
    real = next((real for _, real in galleries.values()), None)
    figure = comparison_figure(record, {name: made for name, (made, _) in galleries.items()}, real, dataset.spec)
    numbers, picture = folder / "comparison.json", folder / "comparison.png"
    write_text(numbers, strict_json(record, indent=2) + "\n")
    write_with(picture, lambda beside: figure.save(beside, "PNG"))
    return [picture, numbers]
