"""The data of a run: read a source, read a run's own data again, read more data of the same kind."""

from pathlib import Path

from sfumato import data
from sfumato.data import Dataset
from sfumato.errors import InputError
from sfumato.generative_model import GenerativeModel
from sfumato.recipes import Recipe
from sfumato.reporting import SILENT, Reporter

from .folder import RunFolder

_MOST_NAMED = 10  # skipped files that are named one by one


def load_data(source: str, recipe: Recipe, reporter: Reporter = SILENT) -> Dataset:
    """Read ``source`` as ``recipe`` says, and report how it was read and which files were skipped.

    Raises:
        InputError: no such source, or one that cannot be read.
    """
    with reporter.task("reading") as task:
        dataset = data.load(source, recipe.data.options(), progress=task.count)
    for note in dataset.notes:
        reporter.info(note)
    for path, reason in dataset.skipped[:_MOST_NAMED]:
        reporter.warn(f"skipped {path}: {reason}")
    if len(dataset.skipped) > _MOST_NAMED:
        more = len(dataset.skipped) - _MOST_NAMED
        reporter.warn(f"skipped {more} more files; data.unreadable=stop makes them an error")
    return dataset


def own_data(folder: RunFolder, reporter: Reporter = SILENT) -> Dataset:
    """The data that a run was trained on.

    Raises:
        InputError: the data is gone or has changed, or the run does not name it.
    """
    recipe, source = folder.recipe(), folder.origin().source
    dataset = load_data(source, recipe, reporter)
    if dataset.spec.fingerprint != folder.spec().fingerprint:
        raise InputError(f"{source}: the data has changed since {folder} started; restore it, or train a new run")
    return dataset


def data_like(source: str, model: GenerativeModel, reporter: Reporter = SILENT) -> Dataset:
    """Another data set, read as samples of the kind that ``model`` was trained on; toys are drawn with a new seed.

    Raises:
        InputError: no such source, or one that cannot be read.
    """
    options = model.recipe.data.options()
    path = Path(source).expanduser()
    options = data.DataOptions(
        layout="auto" if path.is_dir() or source in data.BUILT_IN else model.spec.layout.name,
        size=options.size if path.is_dir() else None,
        key=options.key if path.suffix.lower() == ".npz" else None,
        channels=options.channels if path.suffix.lower() in {".npy", ".npz"} else None,
        unreadable=options.unreadable,
        count=options.count,
        seed=options.seed + 1,
    )
    with reporter.task("reading") as task:
        dataset = data.load(source, options, progress=task.count)
    if dataset.skipped:
        reporter.warn(f"skipped {len(dataset.skipped)} unreadable files of {source}")
    return dataset


def origin_of(source: str) -> str:
    """The source as run.json holds it: the name of a built-in data set, or an absolute path."""
    return source if source in data.BUILT_IN else str(Path(source).expanduser().resolve())
