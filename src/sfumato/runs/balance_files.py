"""Balanced data in the format of its source: a table, a folder of images for each class, or an .npz file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sfumato.data import TABLES, DataSpec, typed_columns, write_table
from sfumato.files import expanded, write_with

from .croissant import of_array, of_images, of_table
from .drawing import columns
from .image_files import holds_images, write_images

Values = npt.NDArray[np.float64]


def write_data(
    folder: Path, source: str, spec: DataSpec, values: Values, labels: Sequence[str], about: str
) -> tuple[str, dict[str, Any]]:
    """Write samples into ``folder``. Returns the name of what was written, and its description for catalogues.

    Arguments:
        folder: it is there.
        source: where the real samples came from, which says the format.
        spec: the contract.
        values: (n, *shape) in data units, each one that the data can have.
        labels: the class of each.
        about: what the data is, in a sentence.
    """
    ending = next((ending for ending in TABLES if source.lower().endswith(ending)), None)
    if ending is not None:
        path = folder / f"data{ending}"
        table = typed_columns(spec, as_text(spec, values).reshape(len(values), -1), columns(spec), labels)
        write_with(path, lambda beside: write_table(Path(beside), table))
        return path.name, of_table(path, table, about)
    if expanded(source).is_dir() and holds_images(spec):
        path = folder / "data"
        write_images(path, values.astype(spec.dtype), labels, spec)
        return path.name, of_images(path, about)
    path = folder / "data.npz"
    write_arrays(path, spec, values, labels)
    return path.name, of_array(path, about)


def as_text(spec: DataSpec, values: Values) -> Values:
    """Numbers of 32 bits as the shortest decimal ones that they are: 5.1, not 5.0999999."""
    if spec.dtype != "float32":
        return values
    flat = [float(str(x)) for x in values.astype(np.float32).ravel()]
    return np.array(flat, np.float64).reshape(values.shape)


def write_arrays(path: Path, spec: DataSpec, values: Values, labels: Sequence[str], whole: bool = False) -> None:
    """Write ``samples``, ``labels`` and, of signals, their axis as arrays of an .npz file.

    Arguments:
        path: the file.
        spec: the contract.
        values: (n, *shape); a single channel has no axis of its own in the file unless ``whole``.
        labels: the class of each, as whole numbers where all are.
        whole: see ``values``.
    """
    samples = values.astype(spec.dtype)
    if spec.layout.dimensions and spec.shape[0] == 1 and not whole:
        samples = samples[:, 0]
    numbers = all(name.isascii() and name.isdecimal() and str(int(name)) == name for name in spec.class_names)
    arrays = {"samples": samples, "labels": np.array([int(x) for x in labels] if numbers else labels)}
    if spec.axis is not None:
        arrays["axis"] = np.array(spec.axis.values)

    def write(beside: Path) -> None:
        with open(beside, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    write_with(path, write)
