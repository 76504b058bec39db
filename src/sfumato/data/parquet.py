"""Tables in Parquet files, read and written by pyarrow, which is an extra."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import no_permission
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


TextColumns = list[tuple[str, Sequence[str], npt.NDArray[np.float64] | None]]
"""Columns: name, cells as text, and numbers, which are None for a column of text."""


def read_columns(path: Path) -> TextColumns:
    """The columns of a file.

    Numbers, truth values and decimals are numbers, with NaN for what is missing. Everything else is text.

    Raises:
        InputError: pyarrow is not installed, or the file is no Parquet file.
    """
    arrow, parquet = pyarrow_for(path)
    try:
        table = parquet.read_table(path)
    except PermissionError:
        raise no_permission(shown(path)) from None
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"'{shown(path)}' cannot be read as a Parquet file ({reason(error)}); write it again"
        ) from None
    return text_columns(table, f"'{shown(path)}'", arrow)


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
            found.append((name, Cells(numbers), None if np.isnan(numbers).all() else numbers))
        else:
            found.append((name, ["" if cell is None else str(cell) for cell in column.to_pylist()], None))
    return found


def write_columns(path: Path, values: npt.NDArray[np.generic], names: Sequence[str], labels: Sequence[str]) -> None:
    """Write samples (n, D) as columns, and a last column "label" where there are labels.

    Raises:
        InputError: pyarrow is not installed.
    """
    arrow, parquet = pyarrow_for(path)
    columns = {name: arrow.array(column) for name, column in zip(names, values.T, strict=True)}
    parquet.write_table(arrow.table({**columns, **({"label": list(labels)} if labels else {})}), path)


def pyarrow_for(path: Path) -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet. Raises InputError where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"'{shown(path)}': needs pyarrow to be read; run 'pip install sfumato[parquet]'") from None
    return pyarrow, pyarrow.parquet
