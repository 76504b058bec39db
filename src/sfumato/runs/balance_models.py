"""What makes the samples that a class lacks: trees for vectors, a network for signals and images, or a run's model."""

import tempfile
from pathlib import Path

import torch

from sfumato import kinds, recipes
from sfumato.data import Dataset, DataSpec
from sfumato.errors import InputError
from sfumato.generative_model import GenerativeModel
from sfumato.model import Model
from sfumato.recipes import Recipe
from sfumato.reporting import SILENT, Reporter
from sfumato.training.trees import Grower

from .automatic import TREES
from .balance_files import write_arrays
from .command import in_seconds
from .settings import DEFAULT, BalanceSettings, TrainSettings
from .sources import load_data
from .training import train

BUDGET = 600.0  # seconds for a network where none are given
_OF_VALUES = ("data.low=", "data.high=", "data.levels=")  # settings of reading that hold for samples in another file


def is_grown(spec: DataSpec) -> bool:
    """Whether trees are grown for this data."""
    return spec.layout.rank == 1


def read(settings: BalanceSettings, reporter: Reporter) -> tuple[Recipe, Dataset]:
    """The source, and the recipe of what makes samples of its kind.

    Raises:
        InputError: a source that cannot be read, has no classes, or is too large for memory; settings that do not
            apply.
    """
    of_data = tuple(text for text in settings.overrides if text.startswith("data."))
    dataset = load_data(settings.source, recipes.read(TREES, of_data), reporter)
    if len(dataset.spec.class_names) < 2 or dataset.labels is None:
        raise InputError(
            f"{settings.source}: has no classes to balance; name the column or array of classes with data.labels=..."
        )
    if not dataset.in_memory:
        raise InputError(f"{settings.source}: is too large to balance; give fewer samples with data.limit=N")
    if is_grown(dataset.spec) and settings.budget is not None:
        raise InputError(
            f"--budget {in_seconds(settings.budget)}: vectors are for trees, which are grown to the end; leave it out"
        )
    if dataset.spec.conditions:
        raise InputError("data.conditions: balance makes samples of classes without other numbers; leave it out")
    return recipes.read(TREES if is_grown(dataset.spec) else DEFAULT, settings.overrides), dataset


def of_run(run: Path, spec: DataSpec) -> GenerativeModel:
    """The model of a run. Raises InputError if its samples are of another shape or other classes than ``spec``'s."""
    model = kinds.load(run)
    if model.spec.shape != spec.shape or model.spec.class_names != spec.class_names:
        raise InputError(
            f"--run {run}: its samples or classes are not those of {spec.source}; give a run on data of that kind"
        )
    return model


def grown(dataset: Dataset, recipe: Recipe, reporter: Reporter = SILENT) -> GenerativeModel:
    """Trees that were grown on all rows. Raises InputError where ``Grower`` does."""
    model = kinds.fresh(recipe, dataset.spec)
    assert isinstance(model, Model)
    grower = Grower(model, dataset.samples().take(torch.arange(len(dataset))))
    with reporter.task("growing trees") as task:
        grower.grow(watch=task.count)
    return model


def trained(settings: BalanceSettings, reporter: Reporter) -> GenerativeModel:
    """A network that was trained on the source, in a run that stays. Raises InputError if that was interrupted."""
    budget = settings.budget or BUDGET
    found = train(TrainSettings(settings.source, settings.overrides, DEFAULT, budget), reporter)
    if found.interrupted:
        raise InputError(f"{found.folder}: was interrupted; continue it, and give it with --run {found.folder}")
    reporter.info(f"trained {found.folder}; --run {found.folder} makes samples with it again")
    return found.model


def trained_on(dataset: Dataset, settings: BalanceSettings, reporter: Reporter = SILENT) -> GenerativeModel:
    """A network that was trained on samples that are in no file of their own; its run does not stay."""
    own = tuple(text for text in settings.overrides if not text.startswith("data.") or text.startswith(_OF_VALUES))
    with tempfile.TemporaryDirectory() as folder:
        path, run = Path(folder) / "data.npz", Path(folder) / "run"
        assert dataset.labels is not None
        names = [dataset.spec.class_names[int(row)] for row in dataset.labels]
        write_arrays(path, dataset.spec, dataset.values.double().numpy(), names, whole=True)
        reads = (f"data.layout={dataset.spec.layout.name}", "data.channels=first", "data.labels=labels")
        budget = settings.budget or BUDGET
        found = train(TrainSettings(str(path), (*own, *reads), DEFAULT, budget, out=run), reporter)
        if found.interrupted:
            raise InputError("balance: the training of a network was interrupted; nothing is written")
        return found.model
