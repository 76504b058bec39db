"""Tables in .csv, .tsv and .parquet files: a row per sample, or spectra with their axis in one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import no_permission
from .axis import Axis, is_ordered
from .column_kinds import MISSING, column_of
from .dataset import Content, DataOptions, shown
from .parquet import PARQUET, TextColumns, parquet_rows, read_columns
from .table_roles import named, positions_of, refuse_slips, without_conditions, without_labels, without_numbering
from .table_text import Numbers, ReadColumn, ReadTable, is_number, parsed

TABLES = (".csv", ".tsv", PARQUET)


def read_table(path: Path, options: DataOptions) -> Content:
    """Read a table, a row per sample.

    The separator of a .csv is a tab or a semicolon if the first line has one, else a comma. A first row that is not of
    numbers has the names. A first row of at least eight ordered numbers is the axis of signals, beside which there may
    be names of the samples, and ``data.axis`` names a column that is the axis of the signals in all other columns.
    ``data.labels`` names the column of classes; a single column of text is taken for it.

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
    columns, labels, classes, notes, label = without_labels(table, options)
    columns, given = without_conditions(table, columns, options)
    columns, more = without_numbering(columns)
    columns, axis, beside = positions_of(table, columns, options)
    more += beside
    names = [column.name for column in columns]
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
        column = named(table, name, "data.columns")
        if column.name == options.labels:
            raise InputError(f"data.columns: '{shown(name)}' is the class by data.labels; leave out one of them")


def _kinds(table: ReadTable, columns: list[ReadColumn], options: DataOptions) -> Content:
    """The columns by their kinds."""
    found, values, notes = [], [], []
    for column in columns:
        where, asked = f"{table.where}, column '{shown(column.name)}'", (options.columns or {}).get(column.name)
        if asked is None:
            refuse_slips(table, column, where)
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
    chosen = named(table, name, "data.axis")
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
