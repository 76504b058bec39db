"""Samples and labels in .npy and .npz files, read without pickle and without trusting what a header claims."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Int64
from numpy.lib import format as npy

from ..errors import InputError
from ..files import no_permission
from .dataset import DataOptions, reason, shown
from .mapped import may_stay, open_mapped

_KEYS = ("x", "X", "data", "images", "samples", "arr_0")
_LABEL_KEYS = ("y", "labels", "label", "target")
_DEFLATE = 1040  # most bytes that one byte of a deflated file can stand for


class UnclearArrayError(InputError):
    """Several arrays of a file could be the samples.

    Arguments:
        message: what is said where ``data.key`` can choose.
        names: of the arrays of numbers.
    """

    def __init__(self, message: str, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names


@dataclass(frozen=True)
class _Member:
    """An array in a file: its name, what its header says, and how many bytes of values the file can hold."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    room: int

    @property
    def numeric(self) -> bool:
        return self.dtype.kind in "biuf"


@dataclass(frozen=True, eq=False)
class Labels:
    """Classes: an index per sample, the names, and notes on where they come from."""

    indices: Int64[np.ndarray, "n"] | None = None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


NO_LABELS = Labels()


@dataclass(frozen=True, eq=False)
class Archive:
    """The arrays of a file as they stand there."""

    values: np.ndarray
    labels: Labels = NO_LABELS
    noise: np.ndarray | None = None
    conditions: tuple[tuple[str, ...], np.ndarray] | None = None
    axis: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def read_archive(path: Path, options: DataOptions) -> Archive:
    """Read the samples in an .npy or .npz file and, from an .npz, their labels, noise and axis.

    Raises:
        UnclearArrayError: no array of samples, or several candidates.
        InputError: a damaged file; an array that is not of real numbers;
            labels that are not one class per sample; noise whose shape is not that of the samples.
    """
    if path.suffix.lower() == ".npz":
        with _damage(path), zipfile.ZipFile(path) as archive:
            members = _members(archive)
            chosen = _chosen(members, options.key, path)
            _check(chosen, path)
            labels = _labels(archive, members, chosen, options.labels, path)
            noise = None if options.noise is None else _noise(archive, members, chosen, options.noise, path)
            axis = None if options.axis is None else _axis(archive, members, options.axis, path)
            given = None if options.conditions is None else _conditions(archive, members, chosen, options, path)
            return Archive(_values(archive, chosen), labels, noise, given, axis, _others(members, chosen, options))
    if any(key is not None for key in (options.key, options.labels, options.conditions, options.noise, options.axis)):
        raise InputError(
            f"data.key, data.labels, data.conditions, data.noise, data.axis: '{shown(path)}' holds one array without a "
            "name; leave them out, or give an .npz"
        )
    with _damage(path), open(path, "rb") as file:
        header = _header(file, path.name, path.stat().st_size)
        _check(header, path)
        file.seek(0)
        if may_stay(header.dtype, header.room):
            return Archive(open_mapped(path))
        return Archive(npy.read_array(file, allow_pickle=False))


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while parsing a file into a one-line error."""
    try:
        yield
    except InputError:
        raise
    except PermissionError:
        raise no_permission(shown(path)) from None
    except Exception as error:  # numpy and zipfile raise nearly everything on damaged files
        raise InputError(
            f"'{shown(path)}' cannot be read: {reason(error)}; save it again with numpy.save or numpy.savez"
        ) from error


def _header(stream: IO[bytes] | BufferedIOBase, name: str, size: int) -> _Member:
    """The array that the header at the start of a stream of ``size`` bytes claims."""
    version = npy.read_magic(stream)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"it uses version {version} of the format, which numpy writes only for records")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    return _Member(name, shape, dtype, size - stream.tell())


def _members(archive: zipfile.ZipFile) -> dict[str, _Member]:
    """The headers of all arrays in an .npz by key, without reading the arrays."""
    members = {}
    for info in archive.infolist():
        if info.filename.endswith(".npy"):
            if info.file_size > _DEFLATE * (info.compress_size + 64):
                raise ValueError(
                    f"member '{shown(info.filename)}' claims more than {info.compress_size} bytes can hold"
                )
            with archive.open(info) as stream:
                key = info.filename[: -len(".npy")]
                members[key] = _header(stream, key, info.file_size)
    return members


def _check(member: _Member, path: Path) -> None:
    """Refuse arrays that are not of numbers, and headers that claim more than the file holds."""
    where = f"'{shown(path)}', array '{shown(member.name)}'"
    if member.dtype.hasobject:
        raise InputError(f"{where} holds Python objects, and pickles are never read; save an array of numbers")
    if member.dtype.kind == "c":
        raise InputError(
            f"{where} is complex; save the real and imaginary parts as two channels: stack([x.real, x.imag], 1)"
        )
    if not member.numeric:
        raise InputError(f"{where} has type {member.dtype}; save an array of real numbers, integers or booleans")
    if math.prod(member.shape) * member.dtype.itemsize != member.room:
        raise InputError(
            f"{where} is damaged: its header claims {member.dtype} {member.shape}, but {member.room} bytes follow; "
            "save it again"
        )


def _values(archive: zipfile.ZipFile, member: _Member) -> np.ndarray:
    with archive.open(f"{member.name}.npy") as stream:
        return npy.read_array(stream, allow_pickle=False)


def _listed(members: dict[str, _Member]) -> str:
    return ", ".join(f"{shown(m.name)} {m.dtype} {m.shape}" for m in members.values()) or "no arrays"


def _chosen(members: dict[str, _Member], key: str | None, path: Path) -> _Member:
    """The array of samples: the one named by ``key``, else one with a usual name, else the only candidate."""
    if key is not None:
        if key not in members:
            raise InputError(f"data.key: '{shown(path)}' has no array '{key}'; it has {_listed(members)}")
        return members[key]
    usual = [members[name] for name in _KEYS if name in members and members[name].numeric]
    possible = usual or [m for m in members.values() if m.numeric and len(m.shape) >= 2]
    if usual or len(possible) == 1:
        return possible[0]
    numeric = [m for m in members.values() if m.numeric]
    if numeric:
        raise UnclearArrayError(
            f"'{shown(path)}' has {'several arrays' if possible else 'no array of two axes or more'} that could be the "
            f"samples; set data.key to one of: {_listed(members)}",
            tuple(m.name for m in numeric),
        )
    pickled = " (arrays of Python objects are never read)" if any(m.dtype.hasobject for m in members.values()) else ""
    raise InputError(
        f"'{shown(path)}' has no arrays of numbers: it holds {_listed(members)}{pickled}; save one with "
        "numpy.savez('data.npz', x=array)"
    )


def _others(members: dict[str, _Member], chosen: _Member, options: DataOptions) -> tuple[str, ...]:
    """A note that names the array of samples where the user did not, and others could be meant."""
    used = {chosen.name, options.labels, options.noise, options.axis, *(options.conditions or ()), *_LABEL_KEYS}
    others = [m for m in members.values() if m.name not in used and m.numeric and len(m.shape) >= 2]
    if options.key is not None or not others:
        return ()
    listed = " or ".join(shown(m.name) for m in others[:3])
    return (f"the samples are the array '{shown(chosen.name)}'; data.key={listed} reads another",)


def _labels(
    archive: zipfile.ZipFile, members: dict[str, _Member], samples: _Member, key: str | None, path: Path
) -> Labels:
    """The labels under ``key``, or under one of the usual keys if the array there can be labels."""
    number = samples.shape[0] if samples.shape else 0
    if key is not None:
        if key not in members:
            raise InputError(f"data.labels: '{shown(path)}' has no array '{key}'; it has {_listed(members)}")
        problem, labels = _classes(archive, members[key], number)
        if problem:
            raise InputError(f"data.labels: '{shown(path)}', array '{key}' {problem}; name an array of classes")
        return labels
    notes: tuple[str, ...] = ()
    for name in _LABEL_KEYS:
        if name in members and name != samples.name:
            problem, labels = _classes(archive, members[name], number)
            if not problem and 2 * len(labels.names) > number:
                problem = f"has {len(labels.names)} different values in {number} samples"
            if not problem:
                return replace(labels, notes=(*notes, f"labels come from the array '{name}'"))
            notes = (*notes, f"the array '{name}' {problem}, so it is not used as labels")
    return replace(NO_LABELS, notes=notes)


def _noise(archive: zipfile.ZipFile, members: dict[str, _Member], samples: _Member, key: str, path: Path) -> np.ndarray:
    if key not in members:
        raise InputError(f"data.noise: '{shown(path)}' has no array '{key}'; it has {_listed(members)}")
    member = members[key]
    _check(member, path)
    if member.shape != samples.shape or member.dtype.kind != "f":
        raise InputError(
            f"data.noise: '{shown(path)}', array '{key}' is {member.dtype} {member.shape}; noise must be floating "
            f"point and have the samples' shape {samples.shape}"
        )
    return _values(archive, member)


def _conditions(
    archive: zipfile.ZipFile, members: dict[str, _Member], samples: _Member, options: DataOptions, path: Path
) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the numbers that samples are given with, and these (N, k): one or several in an array."""
    names, parts = [], []
    for key in options.conditions or ():
        if key not in members:
            near = get_close_matches(key, members, 1)
            meant = f"did you mean {near[0]}? It has" if near else "it has"
            raise InputError(
                f"data.conditions: '{shown(path)}' has no array '{shown(key)}'; {meant} {_listed(members)}"
            )
        member = members[key]
        _check(member, path)
        if len(member.shape) not in (1, 2) or member.shape[:1] != samples.shape[:1] or member.name == samples.name:
            raise InputError(
                f"data.conditions: '{shown(path)}', array '{shown(key)}' has shape {member.shape}; give one number, or "
                f"a row of numbers, for each of {samples.shape[0] if samples.shape else 0} samples"
            )
        values = _values(archive, member).astype(np.float64).reshape(member.shape[0], -1)
        count = values.shape[1]
        names += [key] if count == 1 else [f"{key}{k + 1}" for k in range(count)]
        parts.append(values)
    return tuple(map(shown, names)), np.concatenate(parts, axis=1)


def _axis(archive: zipfile.ZipFile, members: dict[str, _Member], key: str, path: Path) -> np.ndarray:
    if key not in members:
        raise InputError(f"data.axis: '{shown(path)}' has no array '{key}'; it has {_listed(members)}")
    _check(members[key], path)
    return _values(archive, members[key])


def _classes(archive: zipfile.ZipFile, member: _Member, number: int) -> tuple[str, Labels]:
    """The labels in an array, or the reason why it cannot be labels."""
    if member.shape not in {(number,), (number, 1)}:
        return f"has shape {member.shape} for {number} samples", NO_LABELS
    if member.dtype.kind not in "biufU" or math.prod(member.shape) * member.dtype.itemsize != member.room:
        return f"is damaged or of type {member.dtype}, not integers or text", NO_LABELS
    values = _values(archive, member).reshape(-1)
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and (values == np.rint(values)).all()):
            return "holds numbers that are not whole", NO_LABELS
        values = values.astype(np.int64)
    classes, labels = np.unique(values, return_inverse=True)
    return "", Labels(labels.astype(np.int64), tuple(shown(c) for c in classes.tolist()))
