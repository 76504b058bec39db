"""One recipe of a comparison: train it, measure it, and continue where an earlier command was interrupted."""

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from sfumato import kinds
from sfumato.data import Dataset
from sfumato.errors import InputError, NoPermissionError
from sfumato.evaluation.comparison import PARTS, Row, Yardstick, expected, measure
from sfumato.files import digest
from sfumato.generative_model import GenerativeModel
from sfumato.recipes import Recipe
from sfumato.report import write_report
from sfumato.reporting import SILENT, Reporter
from sfumato.training import NonFiniteError, Trainer, signals

from . import lifecycle
from .folder import Origin, RunFolder
from .resume import has_not_trained, require_same
from .settings import Goal
from .sources import origin_of


class InterruptedTraining(Exception):
    """A signal ended the training of a recipe; a checkpoint is saved.

    Arguments:
        reason: the signal, as ``Trainer.train`` names it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Experiment:
    """One recipe, trained on ``source`` into ``folder`` and measured.

    Arguments:
        name: the recipe's name in the comparison.
        folder: its run.
        recipe: the recipe.
        source: the data.
        goal: when training ends.
        device: the device to train and measure on.
    """

    name: str
    folder: RunFolder
    recipe: Recipe
    source: str
    goal: Goal
    device: torch.device

    def check(self, dataset: Dataset) -> None:
        """Check that the recipe fits this data, and that the run, if it exists, was started with these settings.

        Raises:
            InputError: it does not, or it was not.
        """
        try:
            model = kinds.fresh(self.recipe, dataset.spec)
            model.recipe.build_loss(dataset.spec)
            model.plan()
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None
        if self._started:
            require_same(self.folder, model, self.source, self.goal)

    def row(self, yardstick: Yardstick) -> Row | None:
        """The row that an earlier command measured, if it is of these weights and these samples."""
        found = self._kept()
        row: Row | None = found.get("row")
        return row if row and found.get("under") == self._identity(yardstick) else None

    def forecast(self, yardstick: Yardstick) -> float:
        """A rough estimate of the seconds that training and measuring take."""
        model = kinds.fresh(self.recipe, yardstick.dataset.spec)
        model.module.to(self.device).eval()
        return expected(model, yardstick, self.goal.steps or 0) + (self.goal.seconds or 0.0)

    def run(self, yardstick: Yardstick, reporter: Reporter = SILENT) -> Row:
        """Train and measure the recipe, as far as it is not done yet. Returns its row, and keeps it in the folder.

        Raises:
            InterruptedTraining: a signal ended the training.
        """
        dataset = yardstick.dataset
        trainer = self._trainer(dataset, reporter)
        about = {"recipe": self.name, "run": str(self.folder), "parameters": trainer.model.num_parameters}
        try:
            training = self._kept().get("training") or self._train(trainer, reporter)
        except NonFiniteError as error:
            nothing = dict.fromkeys((*PARTS, "recognition"))
            row: Row = {**about, "training": _spent(trainer), **nothing, "reasons": {"training": str(error)}}
            self._keep(training=row["training"], under=self._identity(yardstick), row=row)
            reporter.warn(f"{self.name}: {error}")
            return row
        self._keep(training=training)
        model = kinds.load(self.folder.path, self.device)
        try:
            lifecycle.finish(self.folder, model, dataset, reporter)
        except FloatingPointError as error:
            reporter.warn(f"{self.name}: {error}")
        row = {**about, "training": training, **_measure(model, yardstick, reporter)}
        rows = [{"label": label, "value": value} for label, value in _facts(row).items()]
        self.folder.write_measurement("results", {"rows": rows})
        write_report(self.folder)
        self._keep(training=training, under=self._identity(yardstick), row=row)
        return row

    @property
    def _started(self) -> bool:
        return self.folder.path.exists() and not has_not_trained(self.folder)

    def _kept(self) -> dict[str, Any]:
        """The results of an earlier command; empty if there are none, or they are damaged."""
        try:
            return self.folder.measurement("comparison") or {}
        except NoPermissionError:
            raise
        except InputError:
            return {}

    def _keep(self, **found: Any) -> None:
        self.folder.write_measurement("comparison", found)

    def _identity(self, yardstick: Yardstick) -> dict[str, Any]:
        """The samples and the weights that a row is valid for."""
        weights = self.folder.weights
        return {"scored": len(yardstick.rows), "weights": digest(weights) if weights.exists() else None}

    def _trainer(self, dataset: Dataset, reporter: Reporter) -> Trainer:
        """The trainer, at the run's newest checkpoint or at the start."""
        if self._started:
            trainer = Trainer(kinds.fresh(self.recipe, dataset.spec), dataset.samples(self.device), self.folder)
            trainer.resume(reporter.warn)
            self.folder.write_origin(Origin(origin_of(self.source), self.goal))
            return trainer
        if self.folder.path.exists():
            shutil.rmtree(self.folder.path)
        model = lifecycle.untrained(self.source, self.recipe, dataset)
        lifecycle.fit_base(model, dataset)
        with lifecycle.claimed(self.folder.path, self.name) as folder:
            trainer = Trainer(model, dataset.samples(self.device), folder)
            lifecycle.begin(self.source, folder, model, self.goal)
        return trainer

    def _train(self, trainer: Trainer, reporter: Reporter) -> dict[str, Any]:
        if trainer.images:
            reporter.info(f"continuing {self.folder} after {trainer.steps:,} steps")
        reason = lifecycle.train_to(trainer, self.goal.after(trainer.seconds), reporter)
        if reason in signals.STOPS.values():
            raise InterruptedTraining(reason)
        return _spent(trainer)


def _measure(model: GenerativeModel, yardstick: Yardstick, reporter: Reporter) -> Row:
    """``measure``, each part as a task of its own."""
    with ExitStack() as stack:
        current: dict[str, Any] = {}

        def progress(part: str, done: int, total: int) -> None:
            if part not in current:
                stack.close()
                current.clear()
                current[part] = stack.enter_context(reporter.task(part))
            current[part].count(done, total)

        return measure(model, yardstick, progress)


def _spent(trainer: Trainer) -> dict[str, Any]:
    return {
        "steps": trainer.steps,
        "images": trainer.images,
        "seconds": round(trainer.seconds, 3),
        "images_per_second": trainer.images / trainer.seconds if trainer.seconds else 0.0,
        "held_out_loss": trainer.last_measured,
        "threads": torch.get_num_threads(),
        "device": trainer.engine.device.type,
    }


def _facts(row: Row) -> dict[str, str]:
    """The measurements for the model card and the report."""
    found = {}
    for part, label in (("bound", "bits/dim of held-out data, the bound"), ("flow", "bits/dim, along the flow")):
        if (cell := row[part]) is not None:
            error = "" if cell["standard_error"] is None else f" ± {cell['standard_error']:.4f}"
            found[label] = f"{cell['bits_per_dim']:.4f}{error}"
    if (cell := row["samples"]) is not None and cell["ratio"] is not None:
        error = "" if cell["ratio_error"] is None else f" ± {cell['ratio_error']:.3f}"
        found["distance of samples, relative to real ones"] = f"{cell['ratio']:.3f}{error}"
    return found
