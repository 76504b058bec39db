"""What the columns of a table are for: classes, conditions, names of samples, positions of signals, or data."""

import math

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .axis import Axis
from .column_kinds import MISSING, are_dates, is_missing
from .dataset import DataOptions, shown
from .table_text import Numbers, ReadColumn, ReadTable, axis_of, is_number, is_position, number


def without_labels(
    table: ReadTable, options: DataOptions
) -> tuple[list[ReadColumn], npt.NDArray[np.int64] | None, tuple[str, ...], list[str], tuple[str, int] | None]:
    """The other columns, the class of each row, the names of the classes, notes, and name and position of classes."""
    columns, where = table.columns, table.where
    chosen, notes = None, []
    if options.labels is not None:
        chosen = named(table, options.labels, "data.labels")
    else:
        texts = [column for column in columns if _is_text(column) and column.name not in (options.columns or {})]
        texts = [column for column in texts if not _all_different(column)]
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


def without_conditions(
    table: ReadTable, columns: list[ReadColumn], options: DataOptions
) -> tuple[list[ReadColumn], tuple[tuple[str, ...], Numbers] | None]:
    """The other columns, and names and numbers of the conditions; NaN where a cell is empty."""
    if options.conditions is None:
        return columns, None
    chosen = [named(table, name, "data.conditions") for name in options.conditions]
    for column in chosen:
        name = shown(column.name)
        if column.name == options.labels or column.name in (options.columns or {}):
            raise InputError(f"data.conditions: '{name}' is set by data.labels or data.columns too; leave out one")
        refuse_slips(table, column, f"{table.where}, column '{name}'")
        if column.numbers is None:
            raise InputError(f"data.conditions: {table.where}, column '{name}' is not of numbers; name others")
    rest = [column for column in columns if all(column is not each for each in chosen)]
    if not rest:
        raise InputError(f"data.conditions: {table.where} has no other columns; leave some of them as the data")
    numbers = np.stack([column.numbers for column in chosen if column.numbers is not None], axis=1)
    return rest, (tuple(shown(column.name) for column in chosen), numbers)


def without_numbering(columns: list[ReadColumn]) -> tuple[list[ReadColumn], list[str]]:
    """Leave out a first column without a name that numbers the rows, as pandas writes it."""
    first = columns[0] if columns else None
    if first is None or len(columns) < 2 or first.numbers is None or not any(column.name for column in columns):
        return columns, []
    if first.name.lower() not in ("", "unnamed: 0", "index") or not _counts(first):
        return columns, []
    return columns[1:], ["the first column numbers the rows and is left out"]


def positions_of(
    table: ReadTable, columns: list[ReadColumn], options: DataOptions
) -> tuple[list[ReadColumn], Axis | None, list[str]]:
    """The columns of signals and their axis, without the names or numbers of samples beside them, and notes."""
    if options.layout == "vector":
        return columns, None, []
    along = [column for column in columns if is_position(column.name)]
    axis = axis_of([column.name for column in along], table.where)
    if axis is None:
        return columns, None, []
    notes, others = [], []
    for column in columns:
        if is_position(column.name) or (options.columns or {}).get(column.name) == "drop":
            continue
        name = shown(column.name)
        if _all_different(column) and (_is_text(column) or _counts(column)):
            notes.append(f"the column '{name}' names the samples and is left out")
        else:
            others.append(name)
    if others:
        note = (
            f"'{shown(along[0].name)}' to '{shown(along[-1].name)}' look like positions of signals, but beside them is "
            f"'{others[0]}', so all are columns of a table; signals are read with data.conditions={','.join(others)}, "
            f"which gives the model these numbers, or without them: data.columns='{{{others[0]}: drop}}'"
        )
        return columns, None, [note]
    return along, axis, notes


def named(table: ReadTable, name: str, key: str) -> ReadColumn:
    """The column of this name. Raises InputError, which begins with the setting ``key``, where there is none."""
    for column in table.columns:
        if column.name == name:
            return column
    names = ", ".join(shown(column.name) for column in table.columns[:20] if column.name)
    raise InputError(f"{key}: {table.where} has no column '{shown(name)}'; it has {names or 'no names of columns'}")


def refuse_slips(table: ReadTable, column: ReadColumn, where: str) -> None:
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


def _is_text(column: ReadColumn) -> bool:
    return column.numbers is None and any(column.cells) and not are_dates(column.cells)


def _has_classes(column: ReadColumn) -> bool:
    """Whether every row has one of a few texts."""
    return 2 * len(set(column.cells)) <= len(column.cells) and not is_missing(column.cells).any()


def _all_different(column: ReadColumn) -> bool:
    """Whether no two rows have the same cell, as names of samples."""
    return len(set(column.cells)) == len(column.cells)


def _counts(column: ReadColumn) -> bool:
    """Whether the column numbers the rows from 0 or from 1."""
    return column.numbers is not None and column.numbers[0] in (0, 1) and bool((np.diff(column.numbers) == 1).all())
