"""Parquet tables that are larger than memory: their rows go to a temporary file, a row group at a time.

Training takes rows in random order, and a row of Parquet costs the decompression of its whole group. So the numbers are
written once, as float32, to a file without a name, which is mapped as an .npy file is and ends with the process.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..reporting import Progress
from . import mapped
from .dataset import Content, DataOptions, shown
from .parquet import PARQUET, opened, pyarrow_for
from .table_text import axis_of

_CELL = np.dtype(np.float32)
_AT_ONCE = 2**23  # cells that are converted at once, at most
_ON_DISK = "/var/tmp"  # noqa: S108, where /tmp may be memory
_ROOM = 2**30  # bytes of the disk that stay free


def is_large(path: Path, options: DataOptions) -> bool:
    """Whether ``read_large`` reads this file: Parquet, and large as arrays that stay in their file are.

    Kinds of columns, gaps, conditions and an axis in a column need all values at once, so a table that is given with
    them is read whole.

    Raises:
        InputError: pyarrow is not installed, or the file is no Parquet file.
    """
    whole = (options.columns, options.missing, options.conditions, options.axis)
    if path.suffix.lower() != PARQUET or any(each is not None for each in whole):
        return False
    about = opened(path, lambda parquet: parquet.read_metadata(path))
    return int(about.num_rows) * int(about.num_columns) * _CELL.itemsize >= mapped.LARGE


def read_large(path: Path, options: DataOptions, progress: Progress | None = None) -> Content:
    """Read a table of numbers, a row per sample, into a temporary file in TMPDIR, or in /var/tmp.

    Arguments:
        path: of the file.
        options: ``labels`` names the column of classes; a single column of text is taken for it.
        progress: called with (rows done, rows in total).

    Raises:
        InputError: other columns of text, cells that are empty or not finite, or a disk without room.
    """
    where = f"'{shown(path)}'"
    file = opened(path, lambda parquet: parquet.ParquetFile(path, pre_buffer=False))
    rows, label = int(file.metadata.num_rows), _label(file.schema_arrow, options, where, path)
    names = [name for name in file.schema_arrow.names if name != label]
    folder = Path(os.environ.get("TMPDIR") or (_ON_DISK if Path(_ON_DISK).is_dir() else tempfile.gettempdir()))
    needed = rows * len(names) * _CELL.itemsize
    if shutil.disk_usage(folder).free < needed + _ROOM:
        raise InputError(
            f"{where} needs {needed / 1e9:.1f} GB of disk in {folder} while it is used; set TMPDIR to a folder "
            "that has them"
        )
    labels = _Labels()
    with tempfile.TemporaryFile(dir=folder) as out:
        done = 0
        for part in _parts(file, path):
            out.write(_numbers(part, names, done, where).tobytes())
            if label is not None:
                labels.add(part.column(label), f"{where}, row {{}}: has no class in '{shown(label)}'", done)
            done += part.num_rows
            if progress is not None:
                progress(done, rows)
        out.flush()
        values = np.memmap(out, _CELL, "c", shape=(rows, len(names)))
    note = f"the table is large: its columns are read as numbers, which are kept in a temporary file in {folder}"
    content = Content(values, "vector", channels=tuple(names), notes=(note,))
    if label is not None:
        found, classes = labels.ordered()
        content = replace(content, labels=found, class_names=tuple(map(shown, classes)))
    axis = None if options.layout == "vector" else axis_of(names, where)
    if axis is not None or options.layout == "signal":
        return replace(content, values=values[:, None], layout="signal", channels=(), axis=axis)
    return content


def _label(schema: Any, options: DataOptions, where: str, path: Path) -> str | None:
    """The column of classes, or None; all others must be of numbers, each with a name of its own."""
    kinds = pyarrow_for(path)[0].types
    tests = (kinds.is_integer, kinds.is_floating, kinds.is_decimal, kinds.is_boolean)
    others = [field.name for field in schema if not any(test(field.type) for test in tests)]
    names, label = list(schema.names), options.labels
    if label is not None and label not in names:
        raise InputError(
            f"data.labels: {where} has no column '{shown(label)}'; it has {', '.join(map(shown, names[:20]))}"
        )
    if label is None and len(others) == 1:
        label = others[0]
    for name in others:
        if name != label:
            raise InputError(
                f"{where}, column '{shown(name)}' is not of numbers, as all of a table of this size must be; leave it "
                f"out, or set data.labels={shown(name)} if it is the class"
            )
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{where} has two columns '{shown(name)}'; rename one")
    if set(names) <= {label}:
        raise InputError(f"{where} has no columns of numbers; give a table with a number per cell")
    return label


def _parts(file: Any, path: Path) -> Iterator[Any]:
    """The rows in order, a part of a row group at a time."""
    rows = max(_AT_ONCE // file.metadata.num_columns, 1)
    for group in range(file.metadata.num_row_groups):  # one reader for all groups would keep what it has read of each
        parts = file.iter_batches(rows, row_groups=[group], use_threads=False)

        def following(_: Any, parts: Iterator[Any] = parts) -> Any:
            return next(parts, None)

        while (part := opened(path, following)) is not None:
            yield part


def _numbers(part: Any, names: list[str], done: int, where: str) -> npt.NDArray[np.float32]:
    """The numbers of a part (rows, columns) in float32; ``done`` rows were before it."""
    found = np.empty((part.num_rows, len(names)), _CELL)
    for j, name in enumerate(names):
        numbers = part.column(name).cast("float64").to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            found[:, j] = numbers
        if len(bad := np.flatnonzero(~np.isfinite(found[:, j]))):
            value = numbers[bad[0]]
            what = "empty" if np.isnan(value) else f"{value:g}"
            raise InputError(
                f"{where}, row {done + bad[0] + 1}, column '{shown(name)}': is {what}; fill the gap, remove the row, "
                "or set data.missing=keep to read the whole table into memory"
            )
    return found


class _Labels:
    """The classes of rows that come in parts."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._parts: list[npt.NDArray[np.int32]] = []

    def add(self, column: Any, missing: str, done: int) -> None:
        """Add the cells of a part before which there were ``done`` rows. Raises InputError for an empty cell."""
        if column.null_count:
            at = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise InputError(f"{missing.format(done + at + 1)}; fill it or remove the row")
        codes = column.dictionary_encode()
        new = [self._numbers.setdefault(cell, len(self._numbers)) for cell in codes.dictionary.to_pylist()]
        self._parts.append(np.array(new, np.int32)[codes.indices.to_numpy()])

    def ordered(self) -> tuple[npt.NDArray[np.int64], list[str]]:
        """The index of each row's class, and the classes in order, numbers by value."""
        names = sorted(self._numbers)
        rank = np.empty(len(names), np.int64)
        rank[[self._numbers[name] for name in names]] = np.arange(len(names))
        return rank[np.concatenate(self._parts)], [
            f"{name:.15g}" if isinstance(name, float) else str(name) for name in names
        ]
