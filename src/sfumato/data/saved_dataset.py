"""Data sets that Hugging Face's ``datasets`` saved to disk, read from their Arrow files by pyarrow alone.

``Dataset.save_to_disk`` writes a folder with ``state.json``, which lists the Arrow files in order; the schema of these
says which columns are images and which are classes. ``DatasetDict.save_to_disk`` writes one such folder for each split
and lists them in ``dataset_dict.json``.
"""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..reporting import Progress
from .chunks import refuse
from .dataset import Content, DataOptions, reason, shown
from .encoded_images import Classes, Images
from .folder import read_images
from .parquet import pyarrow_for, text_columns
from .tables import from_columns

_SPLITS, _STATE = "dataset_dict.json", "state.json"


def is_saved(folder: Path) -> bool:
    """Whether ``folder`` is such a data set, or has several as its splits."""
    return "splits" in _json(folder / _SPLITS) or "_data_files" in _json(folder / _STATE)


def read_saved(folder: Path, options: DataOptions, progress: Progress | None = None) -> Content:
    """Read the data set: its one column of images, or else its columns of numbers as a table.

    Of several splits, "train" is read. The column of classes is the one that ``data.labels`` names, or the first whose
    type says that it holds classes.

    Raises:
        InputError: pyarrow is not installed, a damaged file, no split to choose, or columns that are neither.
    """
    notes: list[str] = []
    splits = _json(folder / _SPLITS).get("splits")
    if isinstance(splits, list):
        if "train" not in splits:
            some = ", ".join(shown(folder / str(each)) for each in splits[:5])
            raise InputError(f"'{shown(folder)}' has no split 'train'; give one of {some}")
        notes.append(f"the split 'train' of {', '.join(map(str, splits))} is read")
        folder = folder / "train"
    arrow, _ = pyarrow_for(folder)
    table, features = _table(folder, arrow)
    for name, feature in features.items():
        if feature.get("_type") == "ClassLabel":
            table = table.set_column(table.column_names.index(name), name, _named(table[name], feature["names"], arrow))
    pictures = [name for name, feature in features.items() if feature.get("_type") == "Image"]
    classes = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    chosen = options.labels or next(iter(classes), None)
    where = f"'{shown(folder)}'"
    if not pictures and len(lists := [name for name in table.column_names if _is_list(table[name].type, arrow)]) == 1:
        return replace(_vectors(table, lists[0], chosen, options, where, arrow), notes=tuple(notes))
    if not pictures:
        content = from_columns(where, text_columns(table, where, arrow), replace(options, labels=chosen))
        return replace(content, notes=(*notes, *content.notes))
    if len(pictures) > 1:
        raise InputError(f"{where} has {len(pictures)} columns of images; remove all but one of {', '.join(pictures)}")
    labels = _labels(table, chosen, where)
    return read_images(_images(folder, table[pictures[0]], labels), options, notes, progress)


def _labels(table: Any, name: str | None, where: str) -> list[str] | None:
    if name is None:
        return None
    if name not in table.column_names:
        raise InputError(f"data.labels: {where} has no column '{shown(name)}'; it has {', '.join(table.column_names)}")
    return [str(label) for label in table[name].to_pylist()]


def _classes(labels: list[str] | None) -> Classes:
    if labels is None:
        return None, ()
    kinds = sorted(set(labels))
    index = {kind: i for i, kind in enumerate(kinds)}
    return np.array([index[label] for label in labels], dtype=np.int64), tuple(map(shown, kinds))


def _is_list(kind: Any, arrow: Any) -> bool:
    return any(test(kind) for test in (arrow.types.is_list, arrow.types.is_large_list, arrow.types.is_fixed_size_list))


def _vectors(table: Any, name: str, chosen: str | None, options: DataOptions, where: str, arrow: Any) -> Content:
    """Lists of numbers of one length, a vector or a signal for each row."""
    cells = [np.asarray(cell if cell is not None else [], np.float64) for cell in table[name].to_pylist()]
    lengths = sorted({cell.shape for cell in cells})
    if len(lengths) != 1 or lengths[0] in ((), (0,)):
        raise InputError(f"{where}, column '{shown(name)}' has lists of several lengths; give as many numbers in each")
    values = np.stack(cells)
    refuse(values, lambda x: ~np.isfinite(x), f"in {where} are NaN or infinite", "remove those rows or fill the gaps")
    labels, classes = _classes(_labels(table, chosen, where))
    signal = options.layout == "signal"
    return Content(
        values[:, None] if signal else values, "signal" if signal else "vector", labels=labels, class_names=classes
    )


def _table(folder: Path, arrow: Any) -> tuple[Any, dict[str, dict[str, Any]]]:
    """All rows, and the types of the columns as ``datasets`` wrote them."""
    files = [str(each.get("filename")) for each in _json(folder / _STATE).get("_data_files", [])]
    try:
        if not files or any(Path(name).name != name for name in files):
            raise ValueError(f"{_STATE} lists no files")
        parts = []
        for name in files:
            with arrow.memory_map(str(folder / name)) as source:
                parts.append(arrow.ipc.open_stream(source).read_all())
        table = arrow.concat_tables(parts)
        written = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        features = written.get("info", {}).get("features", {})
        return table, {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (arrow.ArrowException, OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"'{shown(folder)}' cannot be read as a saved data set ({reason(error)}); save it again"
        ) from None


def _named(column: Any, names: list[str], arrow: Any) -> Any:
    """Numbers of classes as their names; -1 and what is missing have none."""
    known = [names[k] if k is not None and 0 <= k < len(names) else None for k in column.to_pylist()]
    return arrow.array(known, arrow.string())


def _images(folder: Path, column: Any, labels: list[str] | None) -> Images:
    """The images of a column, under the numbers of their rows."""

    def opened(name: str) -> io.BytesIO:
        cell = column[int(name)].as_py() or {}
        if not cell.get("bytes"):
            raise ValueError("it has no content, only the path of a file elsewhere")
        return io.BytesIO(cell["bytes"])

    def classes(names: list[str], notes: list[str]) -> Classes:
        return _classes(None if labels is None else [labels[int(name)] for name in names])

    return Images(shown(folder), [str(i) for i in range(len(column))], opened, classes)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
