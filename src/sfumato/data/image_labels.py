"""The classes of images from a table beside them: two columns, the file and its class."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import no_permission
from .dataset import shown

FOUND = ("labels.csv", "labels.tsv")
"""Names by which a table at the root of a folder is found without being named."""


def table_of(folder: Path, named: str | None) -> Path | None:
    """The table of classes: the one that ``data.labels`` names, or one of the usual name; None without.

    Raises:
        InputError: there is no table where ``named`` says.
    """
    if named is not None:
        path = folder / named
        if not path.is_file():
            raise InputError(
                f"data.labels: '{shown(path)}' is no file; give a table in '{shown(folder)}', as labels.csv"
            )
        return path
    return next((path for path in map(folder.joinpath, FOUND) if path.is_file()), None)


def read_classes(table: Path, names: Sequence[str]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """The class of each image and the names of the classes.

    The table has two columns: the path of an image below the folder, with or without its ending, and its class. A first
    line that names no image is a header.

    Arguments:
        table: a .csv or .tsv file.
        names: paths of the images below the folder.

    Raises:
        InputError: a table that is not of two columns, that names an image twice or one that is not there, or that
            leaves an image out.
    """
    where = f"'{shown(table.name)}'"
    rows = _rows(table, where)
    known = {name: name for name in names}
    stems: dict[str, str | None] = {}
    for each in names:
        stem = each.rsplit(".", 1)[0]
        stems[stem] = None if stem in stems else each  # two images of one stem are told apart by their ending
    classes: dict[str, str] = {}
    for k, (line, (file, label)) in enumerate(rows):
        file = file.replace("\\", "/").removeprefix("./")
        name: str | None = known.get(file) or stems.get(file)
        if name is None and k == 0:
            continue
        if name is None:
            raise InputError(
                f"{where}, line {line}: no image is called '{shown(file)}'; correct the name or the folder"
            )
        if name in classes:
            raise InputError(f"{where}, line {line}: '{shown(file)}' has a class already; remove one of the lines")
        if not label:
            raise InputError(f"{where}, line {line}: '{shown(file)}' has no class; fill it in or remove the image")
        classes[name] = label
    missing = [name for name in names if name not in classes]
    if missing:
        raise InputError(
            f"{where} has no class for {len(missing)} of {len(names)} images, the first is '{shown(missing[0])}'; add "
            "them or move the images away"
        )
    kinds = sorted(set(classes.values()), key=_by_value)
    index = {kind: i for i, kind in enumerate(kinds)}
    return np.array([index[classes[name]] for name in names], dtype=np.int64), tuple(map(shown, kinds))


def _rows(table: Path, where: str) -> list[tuple[int, tuple[str, str]]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except PermissionError:
        raise no_permission(shown(table)) from None
    except UnicodeDecodeError:
        raise InputError(f"{where} is not text in UTF-8; save it as CSV in UTF-8") from None
    first = text.lstrip().split("\n", 1)[0]
    delimiter = "\t" if table.suffix.lower() == ".tsv" else next((each for each in "\t;" if each in first), ",")
    found = []
    for line, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True), start=1):
        cells = [cell.strip() for cell in row]
        if any(cells):
            if len(cells) != 2:
                raise InputError(f"{where}, line {line} has {len(cells)} cells; give two, an image and its class")
            found.append((line, (cells[0], cells[1])))
    if not found:
        raise InputError(f"{where} is empty; give a line per image, with its class")
    return found


def _by_value(kind: str) -> tuple[float, str]:
    """Numbers by their value, and before names."""
    try:
        return float(kind), kind
    except ValueError:
        return float("inf"), kind
