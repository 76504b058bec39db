"""Train a model on data: a new run, or the continuation of one, on one process or on several of torchrun's."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato import kinds, recipes
from sfumato.allowance import ENDLESS, Allowance
from sfumato.data import Dataset, classes_in_words
from sfumato.generative_model import GenerativeModel
from sfumato.report import write_report
from sfumato.report.run import read_run
from sfumato.report.verdict import verdict
from sfumato.reporting import SILENT, Reporter, duration
from sfumato.training import Compute, Keep, Options, Trainer, joined, signals
from sfumato.world import World

from . import lifecycle, mixture, trees
from .automatic import with_recipe
from .choosing import PART, SHARE, choose_sampler
from .console import is_main_process
from .device import pick_device
from .folder import Origin, RunFolder
from .mixture import is_of_mixture
from .outputs import require_writable_run
from .planning import planned
from .settings import DEFAULT, Goal, ReportSettings, TrainSettings
from .sources import load_data, origin_of
from .trees import is_of_trees


@dataclass(frozen=True, eq=False)
class Trained:
    """A training that has ended.

    Arguments:
        folder: the run.
        reason: why it ended: "steps", "levels", "fitted", "budget", "interrupted", "terminated" or "asked".
        report: the report page; None if a signal asked to end at once, or another process writes it.
        device: the device of the training.
        amounts: how much was trained, by its noun in the plural, such as "steps" and "images".
        seconds: of training in all.
        held_out_loss: the last one; None where there is none.
    """

    folder: RunFolder
    reason: str
    report: Path | None
    device: torch.device
    amounts: dict[str, int]
    seconds: float
    held_out_loss: float | None = None

    @classmethod
    def of(cls, trainer: Trainer, reason: str, report: Path | None) -> "Trained":
        """What a trainer has done."""
        amounts = {"steps": trainer.steps, "images": trainer.images}
        device, loss = trainer.engine.device, trainer.last_measured
        return cls(trainer.run, reason, report, device, amounts, trainer.seconds, loss)

    @property
    def status(self) -> int:
        """The exit status of a command that did this."""
        return signals.STATUSES.get(self.reason, 0)

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended it before the goal."""
        return self.reason in lifecycle.ENDS

    @property
    def model(self) -> GenerativeModel:
        """The trained model, ready to sample on the device of the training."""
        return kinds.load(self.folder.path, self.device)

    def describe(self) -> list[str]:
        """The result as lines of text."""
        amounts = ", ".join(f"{count:,} {noun}" for noun, count in self.amounts.items())
        lines = [
            f"{lifecycle.ENDS.get(self.reason, 'done')} after {amounts}, {duration(self.seconds)} in all",
            f"model   {self.folder}",
            *([] if self.report is None else [f"report  {self.report}", *verdict(read_run(self.folder))]),
        ]
        if self.interrupted:
            lines.append(f"report with: {ReportSettings(self.folder.path).command()}")
            lines.append(f"continue with: {TrainSettings(resume=self.folder.path).command()}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The result as --json prints it."""
        return {
            "run": str(self.folder),
            "report": None if self.report is None else str(self.report),
            "stopped": self.reason,
            **self.amounts,
            "seconds": round(self.seconds, 3),
            "held_out_loss": self.held_out_loss,
        }


def train(settings: TrainSettings, reporter: Reporter = SILENT, began: float | None = None) -> Trained:
    """Train as ``settings`` say; then draw samples, write the model card and the report.

    A budget is for all of it. After a signal there are no samples and no report.

    Arguments:
        settings: the settings.
        reporter: receives facts and progress.
        began: when the command began, by ``time.monotonic``, which a budget counts from; by default now.

    Raises:
        InputError: settings, data or a folder that cannot be used.
        NonFiniteError: the loss is not finite.
    """
    started, worked = time.monotonic(), time.process_time()
    began = started if began is None else began
    device = pick_device(settings.device)
    settings = with_recipe(settings, reporter if is_main_process() else SILENT)
    if is_of_trees(settings):
        return _grown(settings, reporter)
    if is_of_mixture(settings):
        return _fitted(settings, reporter)
    with joined(device, settings.timeout) as world:
        reporter = reporter if world.is_main else SILENT
        if settings.resume is None:
            trainer, dataset, goal = _started(settings, device, world, reporter)
        else:
            trainer, dataset, goal = _resumed(settings, RunFolder(settings.resume), device, world, reporter)
        allowance = ENDLESS if goal.seconds is None else Allowance(began + goal.seconds)
        slowness = (time.monotonic() - started) / max(time.process_time() - worked, 1e-3)
        then = lifecycle.report_time(goal.seconds or 0.0, slowness)
        reason = lifecycle.train_to(trainer, goal, reporter, allowance, then)
    folder, page = trainer.run, None
    if world.is_main and reason not in signals.STOPS.values():
        drawing = allowance.keeping(then)
        seconds = min(SHARE * trainer.seconds, PART * drawing.left())
        model = choose_sampler(folder.path, trainer.averaged, seconds, reporter)
        lifecycle.finish(folder, model, dataset, reporter, drawing, then)
        page = _page(folder, reporter, allowance)
    return Trained.of(trainer, reason, page)


def _grown(settings: TrainSettings, reporter: Reporter) -> Trained:
    """As ``train`` does, for a model of trees."""
    grower, folder, dataset, reason = trees.train(settings, reporter)
    page = None
    if reason not in signals.STOPS.values():
        lifecycle.finish(folder, kinds.load(folder.path), dataset, reporter)
        page = _page(folder, reporter, ENDLESS)
    return Trained(folder, reason, page, torch.device("cpu"), {"levels": grower.level}, grower.seconds)


def _fitted(settings: TrainSettings, reporter: Reporter) -> Trained:
    """As ``train`` does, for a mixture alone."""
    model, folder, dataset, number, seconds = mixture.train(settings, reporter)
    lifecycle.finish(folder, model, dataset, reporter)
    page = _page(folder, reporter, ENDLESS)
    return Trained(folder, "fitted", page, torch.device("cpu"), {"Gaussians": number}, seconds)


def _page(folder: RunFolder, reporter: Reporter, allowance: Allowance) -> Path:
    with reporter.task("report") as task:

        def progress(done: int, total: int) -> None:
            task.update(done / total, "", allowance.left() if allowance.limited else None)

        return write_report(folder, progress=progress)


def _started(
    settings: TrainSettings, device: torch.device, world: World, reporter: Reporter
) -> tuple[Trainer, Dataset, Goal]:
    assert settings.source is not None  # checked by the settings
    with world.raise_together():
        if world.is_main:  # before the data is read
            lifecycle.require_free(settings.out)
    recipe = recipes.read(settings.recipe or DEFAULT, settings.overrides)
    dataset = load_data(settings.source, recipe, reporter)
    goal = settings.goal or Goal(steps=recipe.training.steps)
    with reporter.task("planning"):
        recipe = planned(recipe, dataset, goal, device, reporter, world)
    with world.raise_together():
        model = lifecycle.untrained(settings.source, recipe, dataset)
    lifecycle.fit_base(model, dataset, world, reporter)
    if model.recipe.takes_classes:
        reporter.info(f"given {classes_in_words(dataset.spec)}; conditioning=none leaves them out")
    if model.recipe.takes_quantities:
        names = ", ".join(each.name for each in dataset.spec.conditions)
        reporter.info(f"given the numbers {names} beside the data; conditioning=none leaves them out")
    with ExitStack() as stack:
        path = ""
        with world.raise_together():
            if world.is_main:
                name = lifecycle.default_name(dataset, recipe)
                path = str(stack.enter_context(lifecycle.claimed(settings.out, name)))
        run = RunFolder(Path(world.gather_text(path)[0]))
        trainer = Trainer(model, dataset.samples(device), run, _options(settings), world)
        with world.raise_together():
            if world.is_main:
                lifecycle.begin(settings.source, run, model, goal)
    return trainer, dataset, goal


def _resumed(
    settings: TrainSettings, folder: RunFolder, device: torch.device, world: World, reporter: Reporter
) -> tuple[Trainer, Dataset, Goal]:
    folder.config()
    with world.raise_together():
        if world.is_main:
            require_writable_run(folder.path)
    model, dataset = lifecycle.reopen(folder, reporter, settings.source)
    trainer = Trainer(model, dataset.samples(device), folder, _options(settings), world)
    trainer.resume(reporter.warn)
    goal = settings.goal or lifecycle.remaining_goal(folder, trainer.seconds, trainer.images)
    reporter.info(f"continuing {folder} after {trainer.steps:,} steps")
    if world.is_main and settings.source is not None:
        folder.write_origin(Origin(origin_of(settings.source), folder.origin().goal))
    if world.is_main:
        # These describe the weights before.
        for stale in (folder.measurement_file("results"), folder.measurement_file("gallery"), folder.gallery):
            stale.unlink(missing_ok=True)
    return trainer, dataset, goal


def _options(settings: TrainSettings) -> Options:
    last, every = settings.keep_last, settings.keep_every
    return Options(
        checkpoint_every=settings.checkpoint_every,
        keep=Keep(last or 2, every),
        keep_finished=Keep(last or 1, every, best=last is not None),
        compute=Compute(
            settings.micro_batch,
            settings.gradient_checkpointing,
            settings.precision,
            settings.threads,
            settings.shard,
            settings.compile,
        ),
        on_nonfinite=settings.on_nonfinite,
    )
