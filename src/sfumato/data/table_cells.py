"""Tables to be written: columns of typed cells, and samples as such columns."""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .column import Column, Type, day
from .dataset import shown
from .parquet import PARQUET, read_columns, write_columns
from .spec import DataSpec
from .table_text import Numbers, parsed
from .transforms import Columns


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
    columns = parsed(path).columns
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
