"""The arrays of an .npz file that fit the data contract; others become sentences."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sfumato.data.spec import DataSpec

from .image_grid import Values


def read_arrays(
    path: Path, samples: Mapping[str, int], numbers: Sequence[str], spec: DataSpec, again: str, problems: list[str]
) -> dict[str, Values]:
    """The arrays by name. A missing file has none.

    Arguments:
        path: the file.
        samples: arrays of samples, each with the number of its axes before those of a sample.
        numbers: names of arrays that are lists of numbers.
        spec: the data contract.
        again: how to make a new file, for the sentence about one that cannot be read.
        problems: receives a sentence for what is left out.
    """
    if not path.is_file():
        return {}
    found: dict[str, Values] = {}
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not a zip archive")
        # Opened here, because np.load leaves a file open that it cannot read.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            for name in [name for name in arrays.files if name in {*samples, *numbers}]:
                found[name] = arrays[name]
    except PermissionError:
        problems.append(f"{path.name}: may not be read, so it is left out.")
        return {}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        problems.append(f"{path.name} could not be read ({error}). {again}")
        return {}
    for name, array in list(found.items()):
        leading = samples.get(name, 1)
        shape = tuple(spec.shape) if name in samples else ()
        if array.dtype.kind not in "biuf" or array.shape[leading:] != shape or array.ndim != leading + len(shape):
            problems.append(f"{path.name}: {name} of shape {array.shape} does not fit this data, so it is left out.")
            del found[name]
        elif array.size == 0:
            del found[name]
        elif name.endswith("distances") and not np.isfinite(array).all():
            problems.append(f"{path.name}: {name} are not all finite, so they are left out.")
            del found[name]
    return found
