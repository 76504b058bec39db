"""The life of a run that grows trees: start or continue, grow level by level, stop between levels."""

import os

from sfumato import recipes
from sfumato.data import Dataset, classes_in_words, split
from sfumato.errors import InputError
from sfumato.model import Model
from sfumato.reporting import SILENT, Reporter
from sfumato.training import signals
from sfumato.training.trees import Grower, grow_run, require_library

from . import lifecycle
from .folder import Origin, RunFolder
from .outputs import require_writable_run
from .settings import DEFAULT, TrainSettings
from .sources import load_data, origin_of


def is_of_trees(settings: TrainSettings) -> bool:
    """Whether these settings train a model of trees. Raises InputError as ``recipes.read`` does."""
    if settings.resume is not None:
        return isinstance(RunFolder(settings.resume).recipe(), recipes.TreesRecipe)
    return isinstance(recipes.read(settings.recipe or DEFAULT, settings.overrides), recipes.TreesRecipe)


def train(settings: TrainSettings, reporter: Reporter = SILENT) -> tuple[Grower, RunFolder, Dataset, str]:
    """Grow the trees of a new run, or those that an interrupted one lacks.

    Returns:
        The grower, the run, its data, and why it ended: "levels", "interrupted", "terminated" or "asked".

    Raises:
        InputError: settings, data or a folder that cannot be used.
    """
    require_library()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("trees: are grown by one process; start the command without torchrun")
    if settings.goal is not None:
        raise InputError(
            "--budget, --steps: trees are grown once, level by level; leave it out, or give fewer trees.levels"
        )
    grower, folder, dataset = (_started if settings.resume is None else _resumed)(settings, reporter)
    with reporter.task("growing trees") as task, signals.listen() as reason:
        ended = grow_run(
            grower, folder, lambda done, total: task.update(done / total, f"level {done} of {total}"), reason
        )
    return grower, folder, dataset, ended


def _started(settings: TrainSettings, reporter: Reporter) -> tuple[Grower, RunFolder, Dataset]:
    assert settings.source is not None  # checked by the settings
    lifecycle.require_free(settings.out)
    recipe = recipes.read(settings.recipe or "trees", settings.overrides)
    dataset = load_data(settings.source, recipe, reporter)
    model = lifecycle.untrained(settings.source, recipe, dataset)
    if model.recipe.takes_classes:
        reporter.info(f"given {classes_in_words(dataset.spec)}; conditioning=none leaves them out")
    grower = _grower(model, dataset)
    with lifecycle.claimed(settings.out, lifecycle.default_name(dataset, recipe)) as folder:
        lifecycle.begin(settings.source, folder, model, None)
    return grower, folder, dataset


def _resumed(settings: TrainSettings, reporter: Reporter) -> tuple[Grower, RunFolder, Dataset]:
    assert settings.resume is not None
    folder = RunFolder(settings.resume)
    require_writable_run(folder.path)
    if folder.weights.exists():
        raise InputError(f"{folder}: all its trees are grown; train again with another --out")
    model, dataset = lifecycle.reopen(folder, reporter, settings.source)
    grower = _grower(model, dataset)
    grower.resume(folder)
    if settings.source is not None:
        folder.write_origin(Origin(origin_of(settings.source), None))
    reporter.info(f"continuing {folder} after {grower.level} of {grower.levels} levels")
    return grower, folder, dataset


def _grower(model: object, dataset: Dataset) -> Grower:
    assert isinstance(model, Model)
    settings = model.recipe.training
    training, _ = split(len(dataset), settings.held_out, settings.seed)
    return Grower(model, dataset.samples().take(training))
