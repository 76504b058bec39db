"""Tables in .csv, .tsv and .parquet files: a row per sample, or spectra with their axis in one line."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import no_permission
from .axis import Axis, is_ordered
from .column_kinds import MISSING, are_dates, column_of, is_missing
from .dataset import Content, DataOptions, shown
from .parquet import PARQUET, TextColumns, parquet_rows, read_columns
from .table_text import Numbers, ReadColumn, ReadTable, axis_of, is_number, number, parsed

TABLES = (".csv", ".tsv", PARQUET)


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
    return _content(parsed(path), options)


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
    return _content(ReadTable(where, [ReadColumn(*column) for column in columns], range(1, rows + 1)), options)


def _content(table: ReadTable, options: DataOptions) -> Content:
    if options.axis is not None:
        return _by_column(table, options.axis, options)
    _check_options(table, options)
    columns, labels, classes, notes, label = _without_labels(table, options)
    columns, given = _without_conditions(table, columns, options)
    columns, more = _without_numbering(columns)
    names = [column.name for column in columns]
    axis = None if options.layout == "vector" else axis_of(names, table.where)
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


def _check_options(table: ReadTable, options: DataOptions) -> None:
    for name in options.columns or {}:
        column = _named(table, name, "data.columns")
        if column.name == options.labels:
            raise InputError(f"data.columns: '{shown(name)}' is the class by data.labels; leave out one of them")


def _kinds(table: ReadTable, columns: list[ReadColumn], options: DataOptions) -> Content:
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


def _refuse_slips(table: ReadTable, column: ReadColumn, where: str) -> None:
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
    slips = [i for i in present if not is_number(column.cells[i], ";")]
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


def _without_labels(
    table: ReadTable, options: DataOptions
) -> tuple[list[ReadColumn], npt.NDArray[np.int64] | None, tuple[str, ...], list[str], tuple[str, int] | None]:
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
        kinds = sorted(set(chosen.cells), key=number)
    if options.labels is not None and 2 * len(kinds) > len(chosen.cells):
        raise InputError(
            f"data.labels: {where}, column '{shown(chosen.name)}' has {len(kinds)} different values in "
            f"{len(chosen.cells)} rows; name a column of classes"
        )
    index = {kind: i for i, kind in enumerate(kinds)}
    labels = np.array([index[cell] for cell in chosen.cells], dtype=np.int64)
    rest = [column for column in columns if column is not chosen]
    return rest, labels, tuple(map(shown, kinds)), notes, (chosen.name, columns.index(chosen))


def _is_text(column: ReadColumn) -> bool:
    return column.numbers is None and any(column.cells) and not are_dates(column.cells)


def _has_classes(column: ReadColumn) -> bool:
    """Whether every row has one of a few texts."""
    return 2 * len(set(column.cells)) <= len(column.cells) and not is_missing(column.cells).any()


def _named(table: ReadTable, name: str, key: str) -> ReadColumn:
    for column in table.columns:
        if column.name == name:
            return column
    names = ", ".join(shown(column.name) for column in table.columns[:20] if column.name)
    raise InputError(f"{key}: {table.where} has no column '{shown(name)}'; it has {names or 'no names of columns'}")


def _without_conditions(
    table: ReadTable, columns: list[ReadColumn], options: DataOptions
) -> tuple[list[ReadColumn], tuple[tuple[str, ...], Numbers] | None]:
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


def _without_numbering(columns: list[ReadColumn]) -> tuple[list[ReadColumn], list[str]]:
    """Leave out a first column without a name that numbers the rows, as pandas writes it."""
    first = columns[0] if columns else None
    if first is None or len(columns) < 2 or first.numbers is None or not any(column.name for column in columns):
        return columns, []
    counts = first.numbers[0] in (0, 1) and (np.diff(first.numbers) == 1).all()
    if first.name.lower() not in ("", "unnamed: 0", "index") or not counts:
        return columns, []
    return columns[1:], ["the first column numbers the rows and is left out"]


def _numbers(table: ReadTable, columns: list[ReadColumn]) -> Numbers:
    """The values (rows, columns)."""
    if not columns:
        raise InputError(f"{table.where} has no columns of numbers; give a table with a number per cell")
    for k, column in enumerate(columns):
        name = f"column '{shown(column.name or k + 1)}'"
        numbers = column.numbers
        if all(cell.lower() in MISSING for cell in column.cells):
            raise InputError(f"{table.where}, {name}: is empty in all {len(column.cells)} rows; remove the column")
        if numbers is None:
            at = next((i for i, cell in enumerate(column.cells) if not is_number(cell, ";")), 0)
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


def _by_column(table: ReadTable, name: str, options: DataOptions) -> Content:
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
