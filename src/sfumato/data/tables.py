"""Tables of numbers in .csv, .tsv and .parquet files: a row per sample, or spectra with their axis in one line."""

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import no_permission
from .axis import Axis, is_ordered
from .column import Column, Type, day
from .column_kinds import MISSING, are_dates, column_of, is_missing
from .dataset import Content, DataOptions, shown
from .parquet import PARQUET, TextColumns, parquet_rows, read_columns, write_columns
from .spec import DataSpec
from .transforms import Columns

TABLES = (".csv", ".tsv", PARQUET)
_AXIS_FROM = 8  # columns: so many ordered numbers in a first row are positions, not a sample
_POSITION = re.compile(r"(?P<number>[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?)\s*[\[(]?(?P<unit>[^\W\d][^\s\[\]()]*)[\])]?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Column:
    """A column: its name, its cells as text, its numbers, None if some cell is not a number, and its type if known."""

    name: str
    cells: Sequence[str]
    numbers: Numbers | None
    type: Type | None = None


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


def count_rows(path: Path) -> int:
    """The rows of a table, or of a text file its lines below the first, without reading it whole.

    Raises:
        InputError: a file that cannot be opened, or .parquet without pyarrow.
    """
    if path.suffix.lower() == PARQUET:
        return parquet_rows(path)
    try:
        with path.open("rb") as file:
            return max(sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b"")) - 1, 0)
    except PermissionError:
        raise no_permission(shown(path)) from None


def from_columns(where: str, columns: TextColumns, options: DataOptions) -> Content:
    """Read columns that are known already as ``read_table`` does; ``where`` is for messages."""
    rows = len(columns[0][1]) if columns else 0
    if not rows:
        raise InputError(f"{where} has no rows; give a row per sample")
    return _content(_Table(where, [_Column(*column) for column in columns], range(1, rows + 1)), options)


def _content(table: _Table, options: DataOptions) -> Content:
    if options.axis is not None:
        return _by_column(table, options.axis, options)
    _check_options(table, options)
    columns, labels, classes, notes, label = _without_labels(table, options)
    columns, given = _without_conditions(table, columns, options)
    columns, more = _without_numbering(columns)
    names = [column.name for column in columns]
    axis = None if options.layout == "vector" else _axis(names, table.where)
    bounded = options.low is not None or options.levels is not None
    if axis is None and options.layout != "signal" and all(names) and not bounded:
        found = _kinds(table, columns, options)
        at = 0 if label is None else sum(column.name in found.channels for column in table.columns[: label[1]])
        label = None if label is None else (label[0], at)
        found = replace(found, labels=labels, class_names=classes, label=label, conditions=given)
        return _without_gaps(replace(found, notes=(*notes, *more, *found.notes)), options)
    values = _numbers(table, columns)
    found = Content(values=values, layout="vector", labels=labels, class_names=classes, conditions=given)
    if options.layout == "signal" or axis is not None:
        if axis is not None:
            unit = f" {shown(axis.unit)}" if axis.unit else ""
            more.append(
                f"the first row is read as the axis of signals, {axis.values[0]:g} to {axis.values[-1]:g}{unit}; "
                "data.layout=vector reads it as names of columns"
            )
        return replace(found, values=values[:, None], layout="signal", axis=axis, notes=(*notes, *more))
    return replace(found, channels=tuple(names) if all(names) else (), notes=(*notes, *more))


def _check_options(table: _Table, options: DataOptions) -> None:
    for name in options.columns or {}:
        column = _named(table, name, "data.columns")
        if column.name == options.labels:
            raise InputError(f"data.columns: '{shown(name)}' is the class by data.labels; leave out one of them")


def _kinds(table: _Table, columns: list[_Column], options: DataOptions) -> Content:
    """The columns by their kinds."""
    found, values, notes = [], [], []
    for column in columns:
        where, asked = f"{table.where}, column '{shown(column.name)}'", (options.columns or {}).get(column.name)
        if asked is None:
            _refuse_slips(table, column, where)
        result = column_of(where, column.name, column.cells, column.numbers, column.type, asked)
        if result is not None:
            found.append(result[0])
            values.append(result[1])
        elif asked is None:
            different = len({cell for cell in column.cells if cell.lower() not in MISSING})
            notes.append(
                f"the column '{shown(column.name)}' is left out: it has {different} different texts in "
                f"{len(column.cells)} rows; data.columns='{{{shown(column.name)}: category}}' keeps it"
            )
    if not found:
        raise InputError(f"{table.where} has no columns of numbers or categories; give some, or set data.columns")
    names = tuple(column.name for column in found)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{table.where} has two columns '{shown(twice)}'; rename one")
    return Content(np.stack(values, axis=1), "vector", channels=names, columns=tuple(found), notes=tuple(notes))


def _refuse_slips(table: _Table, column: _Column, where: str) -> None:
    """Refuse a column of numbers with a slip, and infinite numbers."""
    present = [i for i, gap in enumerate(is_missing(column.cells)) if not gap]
    if column.numbers is not None:
        bad = [i for i in present if not math.isfinite(column.numbers[i])]
        if bad:
            raise InputError(
                f"{table.where}, line {table.lines[bad[0]]}, column '{shown(column.name)}': is "
                f"{shown(column.cells[bad[0]])}; fill the gap or remove the row"
            )
        return
    slips = [i for i in present if not _is_number(column.cells[i], ";")]
    if 0 < len(slips) <= len(present) / 2:
        raise InputError(
            f"{table.where}, line {table.lines[slips[0]]}, column '{shown(column.name)}': "
            f"'{shown(column.cells[slips[0]])}' is not a number; repair it, or set "
            f"data.columns='{{{shown(column.name)}: category}}'"
        )


def _without_gaps(found: Content, options: DataOptions) -> Content:
    """Without the rows that lack a value, where ``data.missing`` says so."""
    full = ~np.isnan(found.values).any(1)
    if full.all() or options.missing != "drop":
        return found
    if not full.any():
        raise InputError("data.missing: every row has a gap; set data.missing=keep, or drop columns by data.columns")
    labels = None if found.labels is None else found.labels[full]
    note = f"{int((~full).sum()):,} of {len(full):,} rows have gaps and are left out (data.missing)"
    columns = tuple(replace(column, missing=0.0) for column in found.columns)
    if found.conditions is not None:
        found = replace(found, conditions=(found.conditions[0], found.conditions[1][full]))
    return replace(found, values=found.values[full], labels=labels, columns=columns, notes=(*found.notes, note))


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
        numbers = np.array([math.nan if cell.lower() in MISSING else float(cell) for cell in cells])
    except ValueError:
        return None
    return None if np.isnan(numbers).all() else numbers


def _without_labels(
    table: _Table, options: DataOptions
) -> tuple[list[_Column], npt.NDArray[np.int64] | None, tuple[str, ...], list[str], tuple[str, int] | None]:
    """The other columns, the class of each row, the names of the classes, notes, and name and position of classes."""
    columns, where = table.columns, table.where
    chosen, notes = None, []
    if options.labels is not None:
        chosen = _named(table, options.labels, "data.labels")
    else:
        texts = [column for column in columns if _is_text(column) and column.name not in (options.columns or {})]
        if len(texts) == 1 and len(columns) > 1 and _has_classes(texts[0]):
            chosen = texts[0]
            notes.append(f"labels come from the column '{shown(chosen.name or columns.index(chosen) + 1)}'")
    if chosen is None:
        return columns, None, (), notes, None
    for cell, line in zip(chosen.cells, table.lines, strict=True):
        if cell.lower() in MISSING:
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
    rest = [column for column in columns if column is not chosen]
    return rest, labels, tuple(map(shown, kinds)), notes, (chosen.name, columns.index(chosen))


def _is_text(column: _Column) -> bool:
    return column.numbers is None and any(column.cells) and not are_dates(column.cells)


def _has_classes(column: _Column) -> bool:
    """Whether every row has one of a few texts."""
    return 2 * len(set(column.cells)) <= len(column.cells) and not is_missing(column.cells).any()


def _named(table: _Table, name: str, key: str) -> _Column:
    for column in table.columns:
        if column.name == name:
            return column
    names = ", ".join(shown(column.name) for column in table.columns[:20] if column.name)
    raise InputError(f"{key}: {table.where} has no column '{shown(name)}'; it has {names or 'no names of columns'}")


def _without_conditions(
    table: _Table, columns: list[_Column], options: DataOptions
) -> tuple[list[_Column], tuple[tuple[str, ...], Numbers] | None]:
    """The other columns, and names and numbers of the conditions; NaN where a cell is empty."""
    if options.conditions is None:
        return columns, None
    chosen = [_named(table, name, "data.conditions") for name in options.conditions]
    for column in chosen:
        name = shown(column.name)
        if column.name == options.labels or column.name in (options.columns or {}):
            raise InputError(f"data.conditions: '{name}' is set by data.labels or data.columns too; leave out one")
        _refuse_slips(table, column, f"{table.where}, column '{name}'")
        if column.numbers is None:
            raise InputError(f"data.conditions: {table.where}, column '{name}' is not of numbers; name others")
    rest = [column for column in columns if all(column is not each for each in chosen)]
    if not rest:
        raise InputError(f"data.conditions: {table.where} has no other columns; leave some of them as the data")
    numbers = np.stack([column.numbers for column in chosen if column.numbers is not None], axis=1)
    return rest, (tuple(shown(column.name) for column in chosen), numbers)


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
        if all(cell.lower() in MISSING for cell in column.cells):
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
    for key, given in (("labels", options.labels), ("conditions", options.conditions)):
        if given is not None:
            raise InputError(f"data.{key}: with data.axis the columns are the signals; leave it out")
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


@dataclass(frozen=True)
class TableColumn:
    """A column to be written.

    Arguments:
        name: of the column.
        cells: numbers, texts, or None where a value is missing.
        type: how they are written.
    """

    name: str
    cells: Sequence[float | int | str | bool | None]
    type: Type


def typed_columns(
    spec: DataSpec, values: npt.NDArray[np.generic], names: Sequence[str], labels: Sequence[str] = ()
) -> list[TableColumn]:
    """Samples (n, D) in data units as the columns of a table like the one that the contract describes.

    Arguments:
        spec: the contract.
        values: as ``spec.to_array`` returns them, one row per sample.
        names: of the columns, for data that was no table of named columns.
        labels: the class of each row, or empty. It is a last column "label", or where the table had it.
    """
    transform = spec.transform
    classes = [TableColumn("label", labels, "text")] * bool(labels)
    if not isinstance(transform, Columns):
        plain: Type = "float" if values.dtype.kind == "f" else "int"
        return [*(TableColumn(name, x.tolist(), plain) for name, x in zip(names, values.T, strict=True)), *classes]
    found = [_typed(column, x) for column, x in zip(transform.columns, values.T, strict=True)]
    if classes and transform.label is not None:
        found.insert(transform.label_at, replace(classes[0], name=transform.label))
        classes = []
    return [*found, *classes]


def raw_columns(path: Path) -> list[TableColumn]:
    """All columns of a table as they stand in the file: text in .csv and .tsv, types in .parquet.

    Raises:
        InputError: as ``read_table`` does; columns without names.
    """
    if path.suffix.lower() == PARQUET:
        return [_raw(*column) for column in read_columns(path)]
    columns = _parsed(path).columns
    if not any(column.name for column in columns):
        raise InputError(f"'{shown(path)}' has no names of columns; write them into its first line")
    return [TableColumn(column.name, column.cells, "text") for column in columns]


def _raw(name: str, cells: Sequence[str], numbers: Numbers | None, type: Type) -> TableColumn:
    if numbers is None:
        return TableColumn(name, [cell or None for cell in cells], type)
    return TableColumn(name, [None if math.isnan(x) else _READ[type](x) for x in numbers.tolist()], type)


_READ: dict[Type, Callable[[float], float | int | bool]] = {"float": float, "int": int, "bool": bool}


def _typed(column: Column, values: npt.NDArray[np.generic]) -> TableColumn:
    def cell(x: float) -> float | int | str | bool | None:
        if math.isnan(x):
            return None
        if column.names:
            name = column.names[round(x)]
            return name if column.type in {"text", "date"} else _READ[column.type](float(name))
        if column.type == "date":
            return day(x)
        if column.type == "bool":
            return x > 0.5
        return round(x) if column.type == "int" else x

    return TableColumn(column.name, [cell(float(str(x))) for x in values.astype(np.float32)], column.type)


def write_table(path: Path, columns: Sequence[TableColumn]) -> None:
    """Write a table with a header.

    Raises:
        InputError: a .parquet file without pyarrow.
    """
    if path.suffix.lower() == PARQUET:
        write_columns(path, [(column.name, column.cells, column.type) for column in columns])
        return
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", lineterminator="\n")
        writer.writerow([column.name for column in columns])
        writer.writerows(zip(*(map(_as_text, column.cells) for column in columns), strict=True))


def _as_text(cell: float | int | str | bool | None) -> str:
    if isinstance(cell, float):
        return f"{cell:.9g}"
    return "" if cell is None else str(cell)
