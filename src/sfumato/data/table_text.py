"""The rows of .csv and .tsv files: cells as text, and columns whose cells are all numbers."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import no_permission
from .axis import Axis, is_ordered
from .column import Type
from .column_kinds import MISSING
from .dataset import shown

_AXIS_FROM = 8  # columns: so many ordered numbers in a first row are positions, not a sample
_POSITION = re.compile(r"(?P<number>[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?)\s*[\[(]?(?P<unit>[^\W\d][^\s\[\]()]*)[\])]?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ReadColumn:
    """A column: its name, its cells as text, its numbers, None if some cell is not a number, and its type if known."""

    name: str
    cells: Sequence[str]
    numbers: Numbers | None
    type: Type | None = None


@dataclass(frozen=True)
class ReadTable:
    """The rows below the names. ``lines`` are their numbers in the file."""

    where: str
    columns: list[ReadColumn]
    lines: Sequence[int]


def parsed(path: Path) -> ReadTable:
    """The table in a .csv or .tsv file.

    The separator of a .csv is a tab or a semicolon if the first line has one, else a comma. A first row that is not of
    numbers, or is the axis of signals, has the names.

    Raises:
        InputError: a file that is not text in UTF-8, is empty, or has rows of different lengths, named by their line.
    """
    where = f"'{shown(path)}'"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except PermissionError:
        raise no_permission(shown(path)) from None
    except UnicodeDecodeError:
        raise InputError(f"{where} is not text in UTF-8; save it as CSV in UTF-8") from None
    first = text.lstrip().split("\n", 1)[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else next((each for each in "\t;" if each in first), ",")
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{where}, line {reader.line_num}: {error}; repair the line") from None
    if not rows:
        raise InputError(f"{where} is empty; give a table with a row per sample")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise InputError(
                f"{where}, line {line} has {len(row)} cells, but the first has {len(rows[0])}; repair the line"
            )
    if _is_axis(rows[0]) or not all(is_number(cell, delimiter) for cell in rows[0]):
        names, rows, lines = rows[0], rows[1:], lines[1:]
    else:
        names = [""] * len(rows[0])
    if not rows:
        raise InputError(f"{where} has no rows below its first; give a row per sample")
    across = [list(cells) for cells in zip(*rows, strict=True)]
    columns = [
        ReadColumn(name, cells, _as_numbers(cells, delimiter)) for name, cells in zip(names, across, strict=True)
    ]
    return ReadTable(where, columns, lines)


def _is_axis(names: Sequence[str]) -> bool:
    """Whether these are the positions of signals: several ordered numbers."""
    if len(names) < _AXIS_FROM or not all(is_number(name, ";") for name in names):
        return False
    return is_ordered([number(name) for name in names])


def axis_of(names: Sequence[str], where: str) -> Axis | None:
    """The axis of signals that the names of columns are: several ordered numbers, all with one unit or with none.

    Raises:
        InputError: numbers with a unit that are not in order.
    """
    if _is_axis(names):
        return Axis(tuple(map(number, names)))
    found = [_POSITION.fullmatch(name) for name in names]
    units = {each["unit"] for each in found if each is not None}
    if len(names) < _AXIS_FROM or None in found or len(units) != 1:
        return None
    positions = tuple(number(each["number"]) for each in found if each is not None)
    if not is_ordered(positions):
        raise InputError(
            f"{where}: the positions in the first row are not strictly increasing or strictly decreasing; sort the "
            "columns, or set data.layout=vector"
        )
    return Axis(positions, unit=units.pop())


def is_position(name: str) -> bool:
    """Whether the name of a column is a number, with a unit or without."""
    return is_number(name, ";") or _POSITION.fullmatch(name) is not None


def number(cell: str) -> float:
    """The number in a cell, whose comma is a decimal one."""
    return float(cell.replace(",", "."))


def is_number(cell: str, delimiter: str) -> bool:
    """Whether the cell is a number; with another delimiter a comma may be the decimal one."""
    return _as_numbers([cell], delimiter) is not None


def _as_numbers(cells: Sequence[str], delimiter: str) -> Numbers | None:
    """The cells as numbers, NaN where one is missing; None if a cell is text, or all are missing."""
    if delimiter != ",":  # then a comma may be the decimal one
        cells = [cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell for cell in cells]
    try:
        numbers = np.array([math.nan if cell.lower() in MISSING else float(cell) for cell in cells])
    except ValueError:
        return None
    return None if np.isnan(numbers).all() else numbers
