"""What a column of a table holds, by its cells or as ``data.columns`` says, and its numbers."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .column import FIRST_DAY, Column, Type

MISSING = {"", "na", "n/a", "nan", "null", "none", "-", "?"}
MOST_CATEGORIES = 64
"""A column of text with more values is left out, unless ``data.columns`` calls it a category."""

_MOST_LEVELS = 20  # a column of numbers with at most so many values, each ten times on average, has no others
_ROWS_PER_LEVEL = 10
_MOST_DECIMALS = 4
_SKEWED = 2.0  # skewness beyond which a column is warped
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ]00:00(?::00(?:\.0+)?)?)?(?:Z|\+00:00)?")
_ASKED = re.compile(r"(?P<kind>[a-z]+)(?:\s+(?P<rest>.+))?")
_RANGE = re.compile(r"(?P<low>[+-]?[\d.]+(?:[eE][+-]?\d+)?)\.\.(?P<high>[+-]?[\d.]+(?:[eE][+-]?\d+)?)")
KINDS = "number, number LOW..HIGH, whole, whole LOW..HIGH, category, ordinal, ordinal A<B<C, date or drop"

Numbers = npt.NDArray[np.float64]


def is_missing(cells: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which cells have no value."""
    return np.array([cell.lower() in MISSING for cell in cells], dtype=bool)


def are_dates(cells: Sequence[str]) -> bool:
    """Whether all cells that have a value are dates as in ISO 8601, without a time of day."""
    present = [cell for cell in cells if cell.lower() not in MISSING]
    return bool(present) and all(map(_DATE.fullmatch, present))


def column_of(
    where: str, name: str, cells: Sequence[str], numbers: Numbers | None, type: Type | None, asked: str | None
) -> tuple[Column, Numbers] | None:
    """The column and its numbers in data units, NaN where there is none; None for one that is left out.

    Arguments:
        where: the table and the column, for messages.
        name: of the column.
        cells: as text.
        numbers: the same as numbers, or None where a cell is text.
        type: how the values are written, where the file says so.
        asked: what ``data.columns`` says of it.

    Raises:
        InputError: a column that is all missing, or that cannot be what was asked for.
    """
    gaps = is_missing(cells) if numbers is None else np.isnan(numbers)
    if gaps.all():
        raise InputError(f"{where}: is empty in all {len(cells)} rows; remove the column, or set {_set(name, 'drop')}")
    if numbers is not None and not np.isfinite(numbers[~gaps]).all():
        raise InputError(f"{where}: has infinite values; remove those rows")
    found = _ASKED.fullmatch(asked.strip()) if asked is not None else None
    kind, rest = (found["kind"], found["rest"]) if found else (None, None)
    known = {"number", "whole", "category", "ordinal", "date", "drop"}
    if asked is not None and (kind not in known or (rest is not None and kind in {"category", "date", "drop"})):
        raise InputError(f"data.columns: '{name}' cannot be '{asked}'; give {KINDS}")
    if kind == "drop":
        return None
    if kind is None:
        kind = _guessed(cells, numbers, gaps)
    if kind is None:
        return None
    if kind == "date":
        values, type = _days(where, name, cells), "date"
        if asked is None and _few(values[~gaps]):
            kind = "ordinal"
    elif kind == "category" or (kind == "ordinal" and (rest is not None or numbers is None)):
        return _named(where, name, kind, cells, gaps, rest, type)
    elif numbers is None:
        raise InputError(f"{where}: has text, so it cannot be '{kind}'; set {_set(name, 'category')}, or drop")
    else:
        values = numbers
    whole = bool((values[~gaps] == np.rint(values[~gaps])).all())
    low, high = _ends(where, name, kind, rest, values[~gaps])
    column = Column(
        name,
        kind,  # type: ignore[arg-type]  # checked above
        type or ("int" if whole else "float"),
        levels=tuple(np.unique(values[~gaps]).tolist()) if kind == "ordinal" else (),
        decimals=_decimals(values[~gaps]) if kind == "number" else None,
        low=low,
        high=high,
    )
    return _fitted(column, values), values


def _set(name: str, kind: str) -> str:
    return f"data.columns='{{{name}: {kind}}}'"


def _guessed(cells: Sequence[str], numbers: Numbers | None, gaps: npt.NDArray[np.bool_]) -> str | None:
    if numbers is not None:
        values = numbers[~gaps]
        if _few(values):
            return "ordinal"
        return "whole" if (values == np.rint(values)).all() else "number"
    if are_dates(cells):
        return "date"
    present = [cell for cell, gap in zip(cells, gaps, strict=True) if not gap]
    few = len(set(present)) <= min(MOST_CATEGORIES, len(present) / 2)
    return "category" if few else None


def _few(values: Numbers) -> bool:
    """Whether these are a few values again and again."""
    different = len(np.unique(values))
    return 1 < different <= _MOST_LEVELS and different * _ROWS_PER_LEVEL <= len(values)


def _ends(where: str, name: str, kind: str, rest: str | None, values: Numbers) -> tuple[float | None, float | None]:
    """The smallest and the largest value of a column."""
    if kind == "ordinal":
        return None, None
    low, high = float(values.min()), float(values.max())
    if rest is None:
        return low, high
    given = _RANGE.fullmatch(rest.replace(" ", ""))
    if given is None:
        raise InputError(f"data.columns: '{name}' cannot be '{kind} {rest}'; give {KINDS}")
    if not float(given["low"]) <= low <= high <= float(given["high"]):
        raise InputError(f"{where}: its values from {low:g} to {high:g} are not within {rest}; widen data.columns")
    return float(given["low"]), float(given["high"])


def _decimals(values: Numbers) -> int | None:
    """The decimal places that are enough for all values, at most ``_MOST_DECIMALS``; None if more are needed."""
    for places in range(_MOST_DECIMALS + 1):
        scaled = values * 10.0**places
        if np.allclose(scaled, np.rint(scaled), rtol=0, atol=1e-6):
            return places
    return None


def _named(
    where: str,
    name: str,
    kind: str,
    cells: Sequence[str],
    gaps: npt.NDArray[np.bool_],
    rest: str | None,
    type: Type | None,
) -> tuple[Column, Numbers]:
    """A category, or an order of names."""
    present = {cell for cell, gap in zip(cells, gaps, strict=True) if not gap}
    names = tuple(sorted(present, key=_by_value)) if rest is None else tuple(part.strip() for part in rest.split("<"))
    if unknown := sorted(present - set(names)):
        raise InputError(f"{where}: has the value '{unknown[0]}', which '{kind} {rest}' lacks; add it to the order")
    index = {each: i for i, each in enumerate(names)}
    values = np.array([np.nan if gap else float(index[cell]) for cell, gap in zip(cells, gaps, strict=True)])
    levels = tuple(map(float, range(len(names)))) if kind == "ordinal" else ()
    column = Column(name, kind, type or "text", names, levels)  # type: ignore[arg-type]  # checked by the caller
    return _fitted(column, values), values


def _by_value(cell: str) -> tuple[float, str]:
    """Numbers by value, then text."""
    try:
        return float(cell), cell
    except ValueError:
        return np.inf, cell


def _days(where: str, name: str, cells: Sequence[str]) -> Numbers:
    found = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if cell.lower() in MISSING:
            continue
        date = _DATE.fullmatch(cell)
        try:
            day = np.datetime64(date[1] if date else cell, "D")
        except ValueError:
            raise InputError(f"{where}: '{cell}' is no date such as 2026-03-01; set {_set(name, 'drop')}") from None
        found[i] = (day - np.datetime64(FIRST_DAY, "D")).astype(int)
    return found


def _fitted(column: Column, values: Numbers) -> Column:
    """The column with its share of gaps, and with mean 0 and variance 1 in model units."""
    present = values[~np.isnan(values)]
    column = replace(column, missing=1 - len(present) / len(values))
    if column.kind == "category":
        return column
    deviation = float(present.std())
    centred = present - present.mean()
    skewness = float((centred**3).mean()) / deviation**3 if deviation > 0 else 0.0
    if column.kind != "ordinal" and abs(skewness) > _SKEWED:
        low, centre, high = np.quantile(present, [0.25, 0.5, 0.75]).tolist()
        width = (high - low) / 1.35 or deviation / 10
        present = np.arcsinh((present - centre) / width)
        column = replace(column, skewed=(centre, width))
    scale = float(present.std())
    return replace(column, shift=float(present.mean()), scale=scale if scale > 0 else 1.0)
