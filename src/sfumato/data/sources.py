"""Sources of data: a built-in name, a folder of images, a file of arrays, a table, idx files."""

import difflib
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from ..files import expanded, reach
from ..reporting import Progress
from .arrays import read_array
from .assemble import finish
from .builtin import read_digits, read_toy
from .dataset import Content, DataOptions, Dataset, shown
from .folder import read_folder
from .idx import idx_in, is_idx, read_idx, read_idx_folder
from .images import EXTENSIONS
from .large_tables import is_large, read_large
from .saved_dataset import is_saved, read_saved
from .tables import TABLES, read_table
from .toys import TOYS

BUILT_IN = ("digits", *TOYS)
_ACCEPTED = (
    "a folder of PNG, JPEG, WebP or TIFF images, an .npy or .npz file of arrays, a .csv, .tsv or .parquet table, "
    "an idx file or a folder of MNIST's, or a data set saved by Hugging Face's datasets"
)
_ARRAYS_ONLY = ("key", "labels", "conditions", "noise", "axis", "channels")
_IMAGES_ONLY = ("size", "convert")
_TABLES_ONLY = ("columns", "missing")
_REFUSED = {
    "built-in data": (*_ARRAYS_ONLY, *_IMAGES_ONLY, *_TABLES_ONLY),
    "a saved data set": ("key", "conditions", "noise", "channels"),
    "a folder of images": (*(name for name in _ARRAYS_ONLY if name != "labels"), *_TABLES_ONLY),
    "a file of arrays": (*_IMAGES_ONLY, *_TABLES_ONLY),
    "a table": ("key", "noise", "channels", *_IMAGES_ONLY),
    "an idx file": (*_ARRAYS_ONLY, *_IMAGES_ONLY, *_TABLES_ONLY),
}
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt")
_FIX = "save the array with numpy.save('data.npy', array) and give that"


def load(
    source: str,
    options: DataOptions | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Load a data set.

    Arguments:
        source: a built-in name, or the path of a folder of images, a file of arrays, a table or an idx file. If a
            folder has the name of a built-in source, ``./name`` means the folder.
        options: how to read it.
        progress: called with (files done, files in total) while a folder is read, with rows while a large table is.
        warn: receives sentences about files of a very large folder that turn out to be unreadable when they are needed.

    Raises:
        InputError: no such source, a source that is ambiguous or cannot be read, options that do not apply to it.
    """
    options = options or DataOptions()
    if source in BUILT_IN:
        _refuse_options(source, options)
        return finish(read_digits() if source == "digits" else read_toy(source, options), options, source)
    path = expanded(source)
    return finish(_read(path, source, options, progress, warn), options, shown(path.resolve().name))


def _read(
    path: Path, source: str, options: DataOptions, progress: Progress | None, warn: Callable[[str], None]
) -> Content:
    extension = path.suffix.lower()
    there = reach(path)
    if not source.strip():
        raise InputError(f"source is empty; give one of {', '.join(BUILT_IN)}, or {_ACCEPTED}")
    if there and not path.is_dir() and not path.is_file():
        raise InputError(f"source '{shown(source)}' is a pipe or a device; give {_ACCEPTED}")
    if path.is_dir():
        _refuse_options(source, options)
        if is_saved(path):
            return read_saved(path, options, progress)
        return read_idx_folder(path, options) if idx_in(path) else read_folder(path, options, progress, warn)
    if not there:
        near = difflib.get_close_matches(source, BUILT_IN, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(
            f"source '{shown(source)}' is neither a built-in name{meant} nor a path that exists; "
            f"give one of {', '.join(BUILT_IN)}, or {_ACCEPTED}"
        )
    if extension in {".npy", ".npz"}:
        _refuse_options(source, options)
        return read_array(path, options)
    if extension in TABLES:
        _refuse_options(source, options)
        return read_large(path, options, progress) if is_large(path, options) else read_table(path, options)
    if is_idx(path):
        _refuse_options(source, options)
        return read_idx(path, options)
    if extension in EXTENSIONS:
        raise InputError(
            f"source '{shown(source)}' is a single image; give the folder that holds the images: "
            f"{shown(path.resolve().parent)}"
        )
    if extension in _PICKLES:
        raise InputError(
            f"source '{shown(source)}' is a pickle, which can run any program when opened, so it is not read; {_FIX}"
        )
    raise InputError(f"source '{shown(source)}' is not a supported kind of file; give {_ACCEPTED}, or {_FIX}")


def applies(source: str, option: str) -> bool:
    """Whether a source of this kind has such an option."""
    return option not in _REFUSED[_kind(source)]


def _kind(source: str) -> str:
    if source in BUILT_IN:
        return "built-in data"
    path = Path(source).expanduser()
    if path.is_dir():
        return "a saved data set" if is_saved(path) else "an idx file" if idx_in(path) else "a folder of images"
    if path.suffix.lower() in TABLES:
        return "a table"
    return "an idx file" if is_idx(path) else "a file of arrays"


def _refuse_options(source: str, options: DataOptions) -> None:
    kind = _kind(source)
    for name in _REFUSED[kind]:
        if getattr(options, name) is not None:
            raise InputError(f"data.{name}: does not apply to '{shown(source)}', which is {kind}; leave it out")
