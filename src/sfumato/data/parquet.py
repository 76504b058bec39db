"""Tables in Parquet files, read and written by pyarrow, which is an extra."""

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import no_permission
from .column import Type
from .dataset import reason, shown

PARQUET = ".parquet"


class Cells(Sequence[str]):
    """The cells of a column of numbers as text, which is made only where it is asked for."""

    def __init__(self, numbers: npt.NDArray[np.float64]) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        value = float(self._numbers[index])
        return "" if math.isnan(value) else f"{value:.15g}"

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


TextColumns = list[tuple[str, Sequence[str], npt.NDArray[np.float64] | None, Type]]
"""Columns: name, cells as text, numbers, which are None for a column of text, and type."""


def read_columns(path: Path) -> TextColumns:
    """The columns of a file.

    Numbers, truth values and decimals are numbers, with NaN for what is missing. Everything else is text.

    Raises:
        InputError: pyarrow is not installed, or the file is no Parquet file.
    """
    table = opened(path, lambda parquet: parquet.read_table(path))
    arrow, _ = pyarrow_for(path)
    return text_columns(table, f"'{shown(path)}'", arrow)


def parquet_rows(path: Path) -> int:
    """The number of rows of a file. Raises InputError as ``read_columns`` does."""
    return int(opened(path, lambda parquet: parquet.read_metadata(path).num_rows))


def opened(path: Path, read: Callable[[Any], Any]) -> Any:
    """What ``read`` returns, called with the module pyarrow.parquet. Raises InputError as ``read_columns`` does."""
    arrow, parquet = pyarrow_for(path)
    try:
        return read(parquet)
    except PermissionError:
        raise no_permission(shown(path)) from None
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"'{shown(path)}' cannot be read as a Parquet file ({reason(error)}); write it again"
        ) from None


def text_columns(table: Any, where: str, arrow: Any) -> TextColumns:
    """The columns of a table of pyarrow.

    Raises:
        InputError: cells that hold more than one value.
    """
    found: TextColumns = []
    kinds = arrow.types
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if kinds.is_nested(kind):
            raise InputError(f"{where}, column '{shown(name)}' holds {kind} in each cell; give one number per cell")
        if any(test(kind) for test in (kinds.is_integer, kinds.is_floating, kinds.is_decimal, kinds.is_boolean)):
            numbers = column.cast(arrow.float64()).to_numpy()
            type: Type = "bool" if kinds.is_boolean(kind) else "int" if kinds.is_integer(kind) else "float"
            found.append((name, Cells(numbers), None if np.isnan(numbers).all() else numbers, type))
        else:
            written: Type = "date" if kinds.is_temporal(kind) else "text"
            found.append((name, ["" if cell is None else str(cell) for cell in column.to_pylist()], None, written))
    return found


def write_columns(path: Path, columns: Sequence[tuple[str, Sequence[Any], Type]]) -> None:
    """Write columns: their names, cells, None where a value is missing, and types.

    Raises:
        InputError: pyarrow is not installed.
    """
    arrow, parquet = pyarrow_for(path)
    kinds = {"float": arrow.float64(), "int": arrow.int64(), "bool": arrow.bool_(), "text": arrow.string()}
    found = {}
    for name, cells, type in columns:
        cells = [None if cell is None else date.fromisoformat(cell) for cell in cells] if type == "date" else cells
        found[name] = arrow.array(cells, arrow.date32() if type == "date" else kinds[type])
    parquet.write_table(arrow.table(found), path)


def pyarrow_for(path: Path) -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet. Raises InputError where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"'{shown(path)}': needs pyarrow to be read; run 'pip install sfumato[parquet]'") from None
    return pyarrow, pyarrow.parquet
