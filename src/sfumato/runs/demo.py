"""The demonstration: a model of handwritten digits, its samples judged by a classifier, and a movie."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato import recipes
from sfumato.data import Dataset, split
from sfumato.evaluation import Gallery, Recognition, recognise
from sfumato.files import write_with
from sfumato.generative_model import GenerativeModel
from sfumato.report import movie, picture, write_report
from sfumato.reporting import SILENT, Reporter, duration
from sfumato.training import Trainer

from . import lifecycle
from .choosing import SHARE, choose_sampler
from .command import program
from .device import pick_device
from .folder import RunFolder
from .planning import planned
from .settings import DemoSettings, Goal, SampleSettings, TrainSettings
from .sources import load_data
from .training import Trained

SAMPLES = 512  # samples that the classifier judges
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Demo:
    """The results of the demonstration.

    Arguments:
        training: how the training ended.
        files: paths of the pictures by name.
        rows: the results, each {"label", "value"}.
        recognition: the judgement of the classifier; None if a signal ended the training.
    """

    training: Trained
    files: dict[str, Path] = field(default_factory=dict)
    rows: list[dict[str, str]] = field(default_factory=list)
    recognition: Recognition | None = None

    def describe(self) -> list[str]:
        """The result as lines of text."""
        folder, reason = self.training.folder, self.training.reason
        command = TrainSettings(resume=folder.path).typed()
        if self.recognition is None:
            return [f"{lifecycle.ENDS[reason]}; continue with: {command}"]
        paths = {"model": folder, **self.files, "report": self.training.report}
        return [
            "",
            *(f"{name:<10}{path}" for name, path in paths.items()),
            "",
            *(f"{row['label'] + ':':<36}{row['value']}" for row in self.rows),
            "",
            *next_commands(folder.path),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The result as --json prints it."""
        found = {} if self.recognition is None else {"recognition": vars(self.recognition)}
        return {**self.training.to_dict(), **found}


def next_commands(run: Path) -> list[str]:
    """What to do after the demonstration, as lines that can be typed."""
    return [
        f"more digits:   {SampleSettings(run).typed()}",
        f"your own data: {program()} train FOLDER_OF_IMAGES --budget 10m",
    ]


def demo(settings: DemoSettings, reporter: Reporter = SILENT) -> Demo:
    """Train on digits for the budget, sample, ask a classifier, write pictures and the report.

    Raises:
        InputError: a folder or a device that cannot be used.
    """
    device = pick_device(settings.device)
    lifecycle.require_free(settings.out)
    recipe, goal = recipes.read("digits"), Goal(seconds=settings.budget)
    dataset = load_data("digits", recipe, reporter)
    recipe = planned(recipe, dataset, goal, device, reporter)
    model = lifecycle.untrained("digits", recipe, dataset)
    lifecycle.fit_base(model, dataset)
    with lifecycle.claimed(settings.out, "demo") as folder:
        trainer = Trainer(model, dataset.samples(device), folder)
        lifecycle.begin("digits", folder, model, goal)
    reason = lifecycle.train_to(trainer, goal, reporter)
    if reason in lifecycle.ENDS:
        return Demo(Trained.of(trainer, reason, None))
    averaged = choose_sampler(folder.path, trainer.averaged, SHARE * trainer.seconds, reporter)
    gallery = lifecycle.finish(folder, averaged, dataset, reporter)
    recognition = _recognise(averaged, dataset, reporter)
    rows = _results(trainer, gallery, recognition)
    folder.write_measurement("results", {"rows": rows})
    files = _pictures(folder, gallery, averaged)
    return Demo(Trained.of(trainer, reason, write_report(folder)), files, rows, recognition)


def _recognise(model: GenerativeModel, dataset: Dataset, reporter: Reporter) -> Recognition:
    assert dataset.labels is not None  # the digits are labelled
    settings = model.recipe.training
    train, held_out = split(len(dataset.values), settings.held_out, settings.seed)
    with reporter.task("sampling") as task:
        watch = model.plan().counting(SAMPLES, _BATCH, task.count)
        samples = model.sample(SAMPLES, seed=1, batch=_BATCH, watch=watch)
    return recognise(
        dataset.values[train], dataset.labels[train], dataset.values[held_out], dataset.labels[held_out], samples
    )


def _results(trainer: Trainer, gallery: Gallery, recognition: Recognition) -> list[dict[str, str]]:
    r = recognition
    values = {
        "trained": f"{trainer.steps:,} steps, {trainer.images:,} images in {duration(trainer.seconds)}",
        "held-out loss (mean over levels)": f"{trainer.last_measured:.4f}; on as many training digits "
        f"{trainer.last_measured_training:.4f}",
        "recognised, mean top probability": f"samples {r.sample_confidence:.3f} ± {r.sample_error:.3f}; held-out real "
        f"digits {r.held_out_confidence:.3f} ± {r.held_out_error:.3f} ({r.held_out_accuracy:.1%} of them correctly)",
        "class fractions, total variation": f"{r.share_distance:.3f} from held-out digits; {r.share_floor:.3f} by "
        "chance at these sizes",
        "nearest training digit, median RMS": f"samples {gallery.distances.median():.3f}; held-out real digits "
        f"{gallery.held_out_distances.median():.3f}",
    }
    return [{"label": label, "value": value} for label, value in values.items()]


def _pictures(folder: RunFolder, gallery: Gallery, model: GenerativeModel) -> dict[str, Path]:
    paths = {"samples": folder.samples / "samples.png", "movie": folder.samples / "forming.gif"}
    folder.samples.mkdir(exist_ok=True)
    image = picture(gallery.samples.numpy(), model.spec)
    write_with(paths["samples"], image.save)
    assert gallery.trajectory is not None  # the demo's recipe makes a diffusion model
    estimates = gallery.trajectory.x_0.numpy()
    write_with(paths["movie"], lambda beside: movie(estimates, model.spec, beside))
    return paths
