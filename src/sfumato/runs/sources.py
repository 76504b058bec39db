"""The data of a run: read a source, read a run's own data again, read more data of the same kind."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sfumato import data, recipes
from sfumato.data import Dataset
from sfumato.errors import InputError, NoPermissionError
from sfumato.files import expanded, reach
from sfumato.generative_model import GenerativeModel
from sfumato.recipes import Recipe
from sfumato.reporting import SILENT, Reporter

from .folder import RunFolder

_ARRAYS = (".npy", ".npz")
_MOST_NAMED = 10  # skipped files that are named one by one


def load_data(source: str, recipe: Recipe, reporter: Reporter = SILENT) -> Dataset:
    """Read ``source`` as ``recipe`` says, and report how it was read and which files were skipped.

    Raises:
        InputError: no such source, or one that cannot be read.
    """
    with reporter.task("reading") as task:
        dataset = data.load(source, recipe.data.options(), task.count, reporter.warn)
    for note in dataset.notes:
        reporter.info(note)
    for path, reason in dataset.skipped[:_MOST_NAMED]:
        reporter.warn(f"skipped {path}: {reason}")
    if len(dataset.skipped) > _MOST_NAMED:
        more = len(dataset.skipped) - _MOST_NAMED
        reporter.warn(f"skipped {more} more files; data.unreadable=stop makes them an error")
    return dataset


def own_data(folder: RunFolder, reporter: Reporter = SILENT, moved: str | None = None) -> Dataset:
    """The data that a run was trained on.

    Arguments:
        folder: the run.
        reporter: receives how the data was read.
        moved: where the data is now; by default where it was.

    Raises:
        InputError: the data is gone or has changed, or the run does not name it; what has ``moved`` is other data.
    """
    recipe, source = folder.recipe(), moved or folder.origin().source
    if moved is None and source not in data.BUILT_IN and not reach(Path(source)):
        raise InputError(
            f"{source}: the data of {folder} is not there any more; restore it, or give its new path after {folder}"
        )
    try:
        dataset = load_data(source, recipe, reporter)
    except NoPermissionError:
        raise
    except InputError as error:
        if moved is not None:
            raise
        found = str(error).partition("; ")[0]  # the rest names settings, which a run does not take any more
        raise InputError(f"{_changed(source, folder)} ({found}); {_RESTORE}") from None
    if dataset.spec.fingerprint == folder.spec().fingerprint:
        return dataset
    if moved is None:
        raise InputError(f"{_changed(source, folder)}; {_RESTORE}")
    raise InputError(f"{source}: is not the data that {folder} was trained on; give the path of that data, unchanged")


_RESTORE = "restore it, or train a new run"


def _changed(source: str, folder: RunFolder) -> str:
    return f"{source}: the data has changed since {folder} started"


def own_data_at(source: str, found: Dataset, folder: RunFolder) -> Dataset | None:
    """The data that a run was trained on, if it is at ``source``; None if other data is there.

    Arguments:
        source: a path.
        found: what ``data_like`` read there; other data is not read again.
        folder: the run.

    Raises:
        InputError: the run is damaged.
    """
    recipe, spec = folder.recipe(), folder.spec()
    alike = found.spec.shape == spec.shape and (len(found) == spec.count or recipe.data.limit is not None)
    if not alike or source in data.BUILT_IN:
        return None
    try:
        return own_data(folder, moved=source)
    except NoPermissionError:
        raise
    except InputError:
        return None


def data_settings(recipe: Recipe, overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of reading that ``overrides`` give, by their names in ``DataOptions``.

    Raises:
        InputError: settings of other sections, unknown ones, or values that are not allowed.
    """
    for text in overrides:
        if not text.startswith("data."):
            raise InputError(f"'{text}': only settings of data, such as data.size=64x64, apply here; leave it out")
    options = recipes.override(recipe, overrides).data.options()
    return {name: getattr(options, name) for name in (text[len("data.") : text.index("=")] for text in overrides)}


def data_like(
    source: str, model: GenerativeModel, reporter: Reporter = SILENT, given: Mapping[str, Any] = MappingProxyType({})
) -> Dataset:
    """Another data set, read as samples of the kind that ``model`` was trained on; toys are drawn with a new seed.

    Arguments:
        source: a path, or the name of a built-in data set.
        model: the model that is to be asked about the data.
        reporter: receives notes.
        given: settings by their names in ``DataOptions``, which replace those of the model's own data.

    Raises:
        InputError: no such source, or one that cannot be read.
    """
    options = model.recipe.data.options()
    path = expanded(source)
    kept = ["size", "convert", "unreadable", "count", *(["channels"] if path.suffix.lower() in _ARRAYS else [])]
    if path.suffix.lower() == ".npz":
        kept += ["key", "conditions"]
    if path.suffix.lower() in data.TABLES:
        kept += ["labels", "conditions", "axis"]
    settings: dict[str, Any] = {
        "layout": "auto" if path.is_dir() or source in data.BUILT_IN else model.spec.layout.name,
        **{name: getattr(options, name) for name in kept if data.applies(source, name)},
        "seed": options.seed + 1,
        **given,
    }
    try:
        with reporter.task("reading") as task:
            dataset = data.load(source, data.DataOptions(**settings), task.count, reporter.warn)
    except data.SizesError as error:
        raise InputError(f"{error.found}; {_sized(model)}") from None
    if dataset.skipped:
        reporter.warn(f"skipped {len(dataset.skipped)} unreadable files of {source}")
    if path.is_dir() and dataset.spec.shape[1:] != model.spec.shape[1:] and model.spec.layout.name == "image":
        height, width = dataset.spec.shape[1:]
        raise InputError(f"the images in '{source}' have {height}x{width} pixels; {_sized(model)}")
    return dataset


def _sized(model: GenerativeModel) -> str:
    if model.spec.layout.name != "image":
        return "give images of one size"
    height, width = model.spec.shape[1:]
    return f"set data.size={height}x{width}, the size of the model's images, to crop and resize them"


def origin_of(source: str) -> str:
    """The source as run.json holds it: the name of a built-in data set, or an absolute path."""
    return source if source in data.BUILT_IN else str(expanded(source).resolve())
