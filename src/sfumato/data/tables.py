"""Tables of numbers in .csv, .tsv and .parquet files: a row per sample, or spectra with their axis in one line."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import no_permission
from .axis import Axis, is_ordered
from .dataset import Content, DataOptions, shown
from .parquet import PARQUET, TextColumns, read_columns, write_columns

TABLES = (".csv", ".tsv", PARQUET)
_AXIS_FROM = 8  # columns: so many ordered numbers in a first row are positions, not a sample
_MISSING = {"", "na", "n/a", "nan", "null", "none", "-", "?"}
_POSITION = re.compile(r"(?P<number>[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?)\s*[\[(]?(?P<unit>[^\W\d][^\s\[\]()]*)[\])]?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Column:
    """A column: its name, its cells as text, and its numbers, None if some cell is not a number."""

    name: str
    cells: Sequence[str]
    numbers: Numbers | None


@dataclass(frozen=True)
class _Table:
    """The rows below the names. ``lines`` are their numbers in the file."""

    where: str
    columns: list[_Column]
    lines: Sequence[int]


def read_table(path: Path, options: DataOptions) -> Content:
    """Read a table, a row per sample.

    The separator of a .csv is a tab or a semicolon if the first line has one, else a comma. A first row that is not of
    numbers has the names. A first row of at least eight ordered numbers is the axis of signals, and
    ``data.axis`` names a column that is the axis of the signals in all other columns. ``data.labels`` names the column
    of classes; a single column of text is taken for it.

    Raises:
        InputError: a file that is not such a table, naming line and column.
    """
    if path.suffix.lower() == PARQUET:
        return from_columns(f"'{shown(path)}'", read_columns(path), options)
    return _content(_parsed(path), options)


def from_columns(where: str, columns: TextColumns, options: DataOptions) -> Content:
    """Read columns that are known already as ``read_table`` does; ``where`` is for messages."""
    rows = len(columns[0][1]) if columns else 0
    if not rows:
        raise InputError(f"{where} has no rows; give a row per sample")
    return _content(_Table(where, [_Column(*column) for column in columns], range(1, rows + 1)), options)


def _content(table: _Table, options: DataOptions) -> Content:
    if options.axis is not None:
        return _by_column(table, options.axis, options)
    columns, labels, classes, notes = _without_labels(table, options)
    columns, more = _without_numbering(columns)
    values, names = _numbers(table, columns), [column.name for column in columns]
    found = Content(values=values, layout="vector", labels=labels, class_names=classes)
    axis = None if options.layout == "vector" else _axis(names, table.where)
    if options.layout == "signal" or (options.layout == "auto" and axis is not None):
        if axis is not None:
            unit = f" {shown(axis.unit)}" if axis.unit else ""
            more.append(
                f"the first row is read as the axis of signals, {axis.values[0]:g} to {axis.values[-1]:g}{unit}; "
                "data.layout=vector reads it as names of columns"
            )
        return replace(found, values=values[:, None], layout="signal", axis=axis, notes=(*notes, *more))
    return replace(found, channels=tuple(names) if all(names) else (), notes=(*notes, *more))


def _parsed(path: Path) -> _Table:
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
    if _is_axis(rows[0]) or not all(_is_number(cell, delimiter) for cell in rows[0]):
        names, rows, lines = rows[0], rows[1:], lines[1:]
    else:
        names = [""] * len(rows[0])
    if not rows:
        raise InputError(f"{where} has no rows below its first; give a row per sample")
    across = [list(cells) for cells in zip(*rows, strict=True)]
    columns = [_Column(name, cells, _as_numbers(cells, delimiter)) for name, cells in zip(names, across, strict=True)]
    return _Table(where, columns, lines)


def _is_axis(names: Sequence[str]) -> bool:
    """Whether these are the positions of signals: several ordered numbers."""
    if len(names) < _AXIS_FROM or not all(_is_number(name, ";") for name in names):
        return False
    return is_ordered([_number(name) for name in names])


def _axis(names: Sequence[str], where: str) -> Axis | None:
    """The axis of signals that the names of columns are: several ordered numbers, all with one unit or with none.

    Raises:
        InputError: numbers with a unit that are not in order.
    """
    if _is_axis(names):
        return Axis(tuple(map(_number, names)))
    found = [_POSITION.fullmatch(name) for name in names]
    units = {each["unit"] for each in found if each is not None}
    if len(names) < _AXIS_FROM or None in found or len(units) != 1:
        return None
    positions = tuple(_number(each["number"]) for each in found if each is not None)
    if not is_ordered(positions):
        raise InputError(
            f"{where}: the positions in the first row are not strictly increasing or strictly decreasing; sort the "
            "columns, or set data.layout=vector"
        )
    return Axis(positions, unit=units.pop())


def _number(cell: str) -> float:
    return float(cell.replace(",", "."))


def _is_number(cell: str, delimiter: str) -> bool:
    return _as_numbers([cell], delimiter) is not None


def _as_numbers(cells: Sequence[str], delimiter: str) -> Numbers | None:
    """The cells as numbers, NaN where one is missing; None if a cell is text, or all are missing."""
    if delimiter != ",":  # then a comma may be the decimal one
        cells = [cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell for cell in cells]
    try:
        numbers = np.array([math.nan if cell.lower() in _MISSING else float(cell) for cell in cells])
    except ValueError:
        return None
    return None if np.isnan(numbers).all() else numbers


def _without_labels(
    table: _Table, options: DataOptions
) -> tuple[list[_Column], npt.NDArray[np.int64] | None, tuple[str, ...], list[str]]:
    """The other columns, the class of each row, the names of the classes, and notes."""
    columns, where = table.columns, table.where
    chosen, notes = None, []
    if options.labels is not None:
        chosen = _named(table, options.labels, "data.labels")
    else:
        texts = [column for column in columns if column.numbers is None and any(column.cells)]
        if len(texts) == 1 and len(columns) > 1 and 2 * len(set(texts[0].cells)) <= len(texts[0].cells):
            chosen = texts[0]
            notes.append(f"labels come from the column '{shown(chosen.name or columns.index(chosen) + 1)}'")
    if chosen is None:
        return columns, None, (), notes
    for cell, line in zip(chosen.cells, table.lines, strict=True):
        if cell.lower() in _MISSING:
            raise InputError(f"{where}, line {line}: has no class in '{shown(chosen.name)}'; fill it or remove the row")
    kinds = sorted(set(chosen.cells))
    if chosen.numbers is not None and (chosen.numbers == np.rint(chosen.numbers)).all():
        kinds = sorted(set(chosen.cells), key=_number)
    if options.labels is not None and 2 * len(kinds) > len(chosen.cells):
        raise InputError(
            f"data.labels: {where}, column '{shown(chosen.name)}' has {len(kinds)} different values in "
            f"{len(chosen.cells)} rows; name a column of classes"
        )
    index = {kind: i for i, kind in enumerate(kinds)}
    labels = np.array([index[cell] for cell in chosen.cells], dtype=np.int64)
    return [column for column in columns if column is not chosen], labels, tuple(map(shown, kinds)), notes


def _named(table: _Table, name: str, key: str) -> _Column:
    for column in table.columns:
        if column.name == name:
            return column
    names = ", ".join(shown(column.name) for column in table.columns[:20] if column.name)
    raise InputError(f"{key}: {table.where} has no column '{shown(name)}'; it has {names or 'no names of columns'}")


def _without_numbering(columns: list[_Column]) -> tuple[list[_Column], list[str]]:
    """Leave out a first column without a name that numbers the rows, as pandas writes it."""
    first = columns[0] if columns else None
    if first is None or len(columns) < 2 or first.numbers is None or not any(column.name for column in columns):
        return columns, []
    counts = first.numbers[0] in (0, 1) and (np.diff(first.numbers) == 1).all()
    if first.name.lower() not in ("", "unnamed: 0", "index") or not counts:
        return columns, []
    return columns[1:], ["the first column numbers the rows and is left out"]


def _numbers(table: _Table, columns: list[_Column]) -> Numbers:
    """The values (rows, columns)."""
    if not columns:
        raise InputError(f"{table.where} has no columns of numbers; give a table with a number per cell")
    for k, column in enumerate(columns):
        name = f"column '{shown(column.name or k + 1)}'"
        numbers = column.numbers
        if all(cell.lower() in _MISSING for cell in column.cells):
            raise InputError(f"{table.where}, {name}: is empty in all {len(column.cells)} rows; remove the column")
        if numbers is None:
            at = next((i for i, cell in enumerate(column.cells) if not _is_number(cell, ";")), 0)
            raise InputError(
                f"{table.where}, line {table.lines[at]}, {name}: '{shown(column.cells[at])}' is not a number; if the "
                f"column is the class, set data.labels={shown(column.name or '...')}, else remove it"
            )
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad):
            cell = column.cells[bad[0]] or "empty"
            raise InputError(
                f"{table.where}, line {table.lines[bad[0]]}, {name}: is {shown(cell)}; fill the gap or remove the row"
            )
    return np.stack([column.numbers for column in columns if column.numbers is not None], axis=1)


def _by_column(table: _Table, name: str, options: DataOptions) -> Content:
    """Signals in the columns, over the positions in the column ``name``."""
    if options.labels is not None:
        raise InputError("data.labels: with data.axis the columns are the signals; leave it out")
    chosen = _named(table, name, "data.axis")
    others = [column for column in table.columns if column is not chosen]
    positions = _numbers(table, [chosen])[:, 0].tolist()
    if not is_ordered(positions):
        raise InputError(
            f"data.axis: {table.where}, column '{shown(name)}' is not strictly increasing or strictly decreasing; sort "
            "the rows"
        )
    values = _numbers(table, others).T[:, None]
    return Content(
        values=np.ascontiguousarray(values),
        layout="signal",
        axis=Axis.named(tuple(positions), shown(name)),
        notes=(f"the {len(others)} columns beside '{shown(name)}' are read as signals of {len(positions)} positions",),
    )


def write_table(path: Path, values: npt.NDArray[np.generic], names: Sequence[str], labels: Sequence[str] = ()) -> None:
    """Write samples (n, D) as a table with a header of ``names``, and a last column "label" where there are labels.

    Raises:
        InputError: a .parquet file without pyarrow.
    """
    if path.suffix.lower() == PARQUET:
        write_columns(path, values, names, labels)
        return
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", lineterminator="\n")
        writer.writerow([*names, "label"] if labels else names)
        for i, row in enumerate(values.tolist()):
            writer.writerow([*(f"{x:.9g}" for x in row), *([labels[i]] if labels else [])])
