"""Which files below a folder are images of a data set."""

import json
import os
from collections import Counter
from pathlib import Path

from ..errors import InputError
from .dataset import shown
from .images import EXTENSIONS

# A folder with one of these files, holding a JSON object with these keys, was written by Sfumato: a model, a run before
# its first checkpoint, a comparison.
_OURS = {
    "config.json": {"format", "recipe", "data"},
    "run.json": {"source", "goal"},
    "comparison.json": {"source", "recipes", "goal"},
}


def list_images(folder: Path, beside: Path | None = None) -> tuple[list[str], list[str]]:
    """The sorted relative paths of the images in and below ``folder``, and notes on what is ignored.

    Hidden files and folders are ignored, and so are the folders that Sfumato itself wrote: the pictures in them are
    drawn, so they are not data.

    Arguments:
        folder: the folder.
        beside: a file in it that is read otherwise, and not called ignored.

    Raises:
        InputError: there are no images, a folder cannot be opened, or ``folder`` itself is one that Sfumato wrote.
    """
    if _is_ours(str(folder)):
        raise InputError(f"folder '{shown(folder)}' is a run or model of Sfumato; give the folder of the data instead")
    images: list[str] = []
    ours: list[str] = []
    hidden = 0
    others: Counter[str] = Counter()
    seen: set[str] = set()
    for directory, folders, files in os.walk(folder, onerror=_closed, followlinks=True):
        real = os.path.realpath(directory)
        if real in seen:  # a link back up would be followed forever
            folders.clear()
            continue
        seen.add(real)
        if _is_ours(directory):
            ours.append(Path(directory).relative_to(folder).as_posix())
            folders.clear()
            continue
        hidden += sum(name.startswith(".") for name in (*files, *folders))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            extension = os.path.splitext(name)[1].lower()
            if not name.startswith(".") and Path(directory, name) != beside:
                if extension in EXTENSIONS:
                    images.append(Path(directory, name).relative_to(folder).as_posix())
                else:
                    others[extension or "no extension"] += 1
    listed = ", ".join(f"{number} {extension}" for extension, number in others.most_common(5))
    if not images:
        inside = f"only other files ({listed})" if others else "only runs of Sfumato" if ours else "no files"
        raise InputError(
            f"folder '{shown(folder)}' has no images: it holds {inside}; give a folder of PNG, JPEG, WebP or TIFF files"
        )
    notes = [f"{others.total()} files that are not PNG, JPEG, WebP or TIFF were ignored ({listed})"] if others else []
    if hidden:
        notes.append(f"{hidden} hidden files and folders were ignored")
    if ours:
        more = f" and {len(ours) - 1} more" if len(ours) > 1 else ""
        notes.append(f"not read as data, because Sfumato wrote it: {shown(min(ours))}{more}")
    return sorted(images), notes


def _is_ours(directory: str) -> bool:
    for name, keys in _OURS.items():
        try:
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                content = json.load(file)
        except (OSError, ValueError, RecursionError):  # none, or somebody else's file
            continue
        if isinstance(content, dict) and keys <= content.keys():
            return True
    return False


def _closed(error: OSError) -> None:
    raise InputError(
        f"folder '{shown(error.filename)}' cannot be opened: {error.strerror}; make it readable or move it"
    )
