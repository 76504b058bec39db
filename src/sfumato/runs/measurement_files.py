"""Files of measurements: readings, masks, samples, and what the --operator flag means."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato.data import DataOptions, DataSpec, images
from sfumato.data.archives import UnclearArrayError, read_archive
from sfumato.data.dataset import reason, shown
from sfumato.errors import InputError
from sfumato.files import reach
from sfumato.restoration import Blur, Calibration, Decibels, Downsampling, Operator, Photons, operator_for, read_noise

_ARRAYS, _TABLES = (".npy", ".npz"), {".csv": ",", ".tsv": "\t"}
_KINDS = "a .npy, .npz, .csv or .tsv file with a matrix, downsample:FACTOR, blur:WIDTH, mask:FILE, or response:FILE"


def read_numbers(flag: str, path: Path) -> Tensor:
    """The numbers in an array, a table or an image, float64; an image as (channels, height, width).

    Raises InputError, which names ``flag``, for a file that cannot be read as numbers.
    """
    ending = path.suffix.lower()
    if not reach(path) or not path.is_file():
        raise InputError(f"{flag} {path}: no such file; give {_accepted()}")
    try:
        if ending in _ARRAYS:
            values = _read_arrays(flag, path)
        elif ending in _TABLES:
            values = np.loadtxt(path, delimiter=_TABLES[ending], ndmin=2, skiprows=_header(path, _TABLES[ending]))
        elif ending in images.EXTENSIONS:
            values = images.read(str(path))[1]
        else:
            raise InputError(f"{flag} {path}: is not a kind of file that is read here; give {_accepted()}")
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{flag} {path}: cannot be read ({reason(error)}); give {_accepted()}") from None
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))


def _read_arrays(flag: str, path: Path) -> np.ndarray:
    try:
        return read_archive(path, DataOptions()).values
    except UnclearArrayError as error:
        # A command that reads numbers has no setting that chooses among arrays.
        if len(error.names) > 1:
            listed = ", ".join(map(shown, sorted(error.names)))
            raise InputError(f"{flag} {path}: holds several arrays, {listed}; give a file with one") from None
        return read_archive(path, DataOptions(key=error.names[0])).values


def read_sample(flag: str, path: Path, spec: DataSpec) -> Tensor:
    """One sample in data units, (*shape), float64.

    Raises InputError for another shape, and for values that the data cannot have.
    """
    values = read_numbers(flag, path)
    if values.numel() != int(np.prod(spec.shape)) or (values.ndim == 3 and tuple(values.shape) != spec.shape):
        shapes = " x ".join(map(str, values.shape)), " x ".join(map(str, spec.shape))
        raise InputError(f"{flag} {path}: has shape {shapes[0]}, but the model was trained on {shapes[1]}")
    sample = values.reshape(1, *spec.shape)
    spec.check(sample, f"{flag} {path}")
    return sample[0]


def read_samples(flag: str, path: Path, spec: DataSpec) -> Tensor:
    """One or more noisy samples in data units, (n, *shape), float64; noise may take values out of the data's bounds.

    Raises InputError for another shape.
    """
    values, size = read_numbers(flag, path), int(np.prod(spec.shape))
    shape = tuple(values.shape)
    if not values.numel() or values.numel() % size or shape[-1] not in (size, spec.shape[-1]):
        shapes = " x ".join(map(str, shape)), " x ".join(map(str, spec.shape))
        raise InputError(f"{flag} {path}: has shape {shapes[0]}, but the model was trained on {shapes[1]}")
    return values.reshape(-1, *spec.shape)


def read_mask(flag: str, path: Path, spec: DataSpec) -> Tensor:
    """Where a mask is set, (*shape): values above half of its largest, such as white.

    Raises InputError for a mask that does not fit, or that is set everywhere or nowhere.
    """
    values = read_numbers(flag, path)
    if values.ndim == 3 and values.shape[0] != spec.shape[0]:
        values = values[:3].mean(0)
    try:
        mask = (values > values.max() / 2).expand(spec.shape)
    except RuntimeError:
        shapes = " x ".join(map(str, values.shape)), " x ".join(map(str, spec.shape))
        raise InputError(f"{flag} {path}: has shape {shapes[0]}, but samples have {shapes[1]}") from None
    if mask.all() or not mask.any():
        raise InputError(f"{flag} {path}: is set {'everywhere' if mask.all() else 'nowhere'}; set a part of it")
    return mask


def read_noise_of(text: str, readings: Tensor) -> float | Tensor | Decibels | Photons | str:
    """What ``--noise`` says of readings (M, *shape): what ``restoration.read_noise`` reads, or a file of deviations.

    Raises InputError for other text, and for deviations that are neither one per reading nor a row per measurement.
    """
    if Path(text).suffix.lower() not in (*_ARRAYS, *_TABLES):
        found = read_noise(text)
        if isinstance(found, float) and not 0 < found < float("inf"):
            raise InputError(f"--noise {text}: is no standard deviation; give more than 0, in their units")
        return found
    values = read_numbers("--noise", Path(text).expanduser())
    for shape in (readings.shape, readings.shape[1:]):
        if values.numel() == shape.numel():
            return values.reshape(shape)
    raise InputError(
        f"--noise {text}: has {values.numel():,} deviations; give one for each of {readings[0].numel():,} readings, "
        f"or a row for each of {len(readings):,} measurements"
    )


def read_calibration(path: Path, spec: DataSpec) -> Calibration:
    """The instrument of an .npz file with samples in the array x and their readings, a row each, in y.

    Raises InputError for a file that cannot be read, samples of another shape, and pairs that are none.
    """
    flag = f"--calibrate-operator {path}"
    try:
        with np.load(path, allow_pickle=False) as file:
            x, y = (torch.from_numpy(np.asarray(file[name], dtype=np.float64)) for name in ("x", "y"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{flag}: cannot be read ({reason(error)}); give an .npz file of arrays x and y") from None
    if x.ndim < 2 or x[0].numel() != int(np.prod(spec.shape)) or y.ndim != 2:
        raise InputError(
            f"{flag}: x has shape {tuple(x.shape)} and y {tuple(y.shape)}; give samples of shape {spec.shape} and "
            "a row of readings for each"
        )
    return Calibration.of(x.reshape(-1, *spec.shape), y)


def read_operator(text: str, spec: DataSpec) -> Operator:
    """The operator that ``--operator`` means, on samples in data units.

    Raises InputError for text that means none, and for what does not fit the data.
    """
    kind, _, value = text.partition(":")
    shape = spec.shape
    if kind == "downsample":
        return operator_for(Downsampling(int(_number(text, value)), shape), shape)
    if kind == "blur":
        return operator_for(Blur.gaussian(_number(text, value), shape), shape)
    if kind == "mask":
        return operator_for(~read_mask("--operator mask:", Path(value).expanduser(), spec), shape)
    if kind == "response":
        return operator_for(response_matrix("--operator response:", Path(value).expanduser(), spec), shape)
    return operator_for(read_numbers("--operator", Path(text).expanduser()), shape)


def response_matrix(flag: str, path: Path, spec: DataSpec) -> Tensor:
    """The matrix of a spectrometer: a column per filter, interpolated from the file's positions to the model's.

    The first column of the table is the position, such as the wavelength, in the units of the data's axis. Reading k is
    the mean over the axis of response k times the spectrum. Between rows the response is linear.

    Raises InputError for data without an axis, positions that do not rise or do not cover it, and responses that are
    not finite or all zero.
    """
    if spec.axis is None:
        raise InputError(f"{flag} {path}: the model's data has no axis of positions; give a matrix instead")
    table, wanted = read_numbers(flag, path).numpy(), np.asarray(spec.axis.values, dtype=np.float64)
    if table.shape[1] < 2 or len(table) < 2:
        raise InputError(f"{flag} {path}: has {table.shape[1]} columns; give the positions, then a column per filter")
    at, responses = table[:, 0], table[:, 1:]
    if not np.isfinite(table).all() or not (np.diff(at) > 0).all():
        raise InputError(f"{flag} {path}: the first column must rise, and all values must be finite")
    if at[0] > wanted.min() or at[-1] < wanted.max():
        raise InputError(
            f"{flag} {path}: covers {at[0]:g} to {at[-1]:g}, but the data's axis {spec.axis.name} goes from "
            f"{wanted.min():g} to {wanted.max():g}; give responses for all of it"
        )
    matrix = np.stack([np.interp(wanted, at, response) for response in responses.T]) / len(wanted)
    dark = ~matrix.any(axis=1)
    if dark.any():
        raise InputError(f"{flag} {path}: filter {int(dark.argmax()) + 1} is zero on all of the axis; leave it out")
    return torch.from_numpy(np.repeat(matrix, spec.shape[0], axis=1) if spec.shape[0] > 1 else matrix)


def table_cells(path: Path) -> list[list[str]]:
    """The words of a table that can be read as numbers, row by row, with the names of its columns where it has them."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [[word.strip() for word in line.split(_TABLES[path.suffix.lower()])] for line in lines if line.strip()]


def _number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"--operator {text}: '{value}' is not a number; write one, such as downsample:4") from None


def _header(path: Path, delimiter: str) -> int:
    """1 if the first line of a table holds names, else 0."""
    with open(path, encoding="utf-8-sig") as file:
        first = file.readline().strip().split(delimiter)
    try:
        [float(word) for word in first]
    except ValueError:
        return 1
    return 0


def _accepted() -> str:
    return "a .npy, .npz, .csv or .tsv file, or an image"
