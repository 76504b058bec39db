"""Tensors of a PyTorch file, read as data: its pickle is looked at word by word, and nothing that it names is run.

A pickle is a program for a stack machine. Here a small machine follows it that knows the words which a dictionary of
tensors needs, and refuses all others. What the program would import stays a name, and what it would call stays a pair
of a name and arguments, from which tensors are built by this file alone.

Files since PyTorch 1.6 are zip archives of a pickle and one file for each storage. Older ones are five pickles, of
which the fourth has the tensors and the fifth the keys of the storages, then an int64 count and the values of each.
"""

import io
import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.errors import InputError
from sfumato.files import digest

_TYPES = {"torch FloatStorage": "<f4", "torch DoubleStorage": "<f8", "torch LongStorage": "<i8"}
_BUILDS_TENSORS = "torch._utils _rebuild_tensor_v2"
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ARGUMENTS = {"BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BININT", "BININT1", "BININT2", "INT", "LONG1", "BINSTRING"}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


@dataclass(frozen=True)
class _Name:
    """What a pickle would import."""

    name: str


@dataclass(frozen=True)
class _Call:
    """What a pickle would call, with its arguments and what it would then put into the result."""

    name: str
    arguments: tuple[Any, ...]
    items: dict[Any, Any]


@dataclass(frozen=True)
class _Storage:
    """A storage that a tensor lies in: its type and its key."""

    kind: str
    key: str


def read_tensors(path: Path, sha256: str) -> Mapping[str, Tensor]:
    """The tensors of the file by name, in its order; other values in it are left out.

    Raises:
        InputError: the file is missing, or has another digest.
    """
    if not path.is_file() or digest(path) != sha256:
        raise InputError(f"{path}: is missing, or not the file of weights that is known; install its package again")
    return tensors_of(path)


def tensors_of(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file of any digest. No word of its pickle is run, so that nothing worse than an error happens.

    Raises:
        InputError: the file holds anything but a dictionary of tensors.
    """
    try:
        found, storages = _zipped(path) if zipfile.is_zipfile(path) else _plain(path.read_bytes())
        items = found.items if isinstance(found, _Call) else found
        return {
            name: _tensor(value, storages)
            for name, value in items.items()
            if isinstance(value, _Call) and value.name == _BUILDS_TENSORS
        }
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is no dictionary of tensors as PyTorch saves them ({error})") from None


def _zipped(path: Path) -> tuple[Any, Mapping[str, Tensor]]:
    with zipfile.ZipFile(path) as archive:
        names = {Path(name).name: name for name in archive.namelist() if name.endswith("data.pkl")}
        folder = str(Path(names["data.pkl"]).parent)
        found, used = _followed(io.BytesIO(archive.read(names["data.pkl"])))
        storages = {
            each.key: _values(archive.read(f"{folder}/data/{each.key}"), each.kind) for each in used
        }  # only those that the pickle names
    return found, storages


def _plain(content: bytes) -> tuple[Any, Mapping[str, Tensor]]:
    stream = io.BytesIO(content)
    parts = [_followed(stream) for _ in range(5)]
    (found, used), (keys, _) = parts[3:]
    kinds, storages, at = {each.key: each.kind for each in used}, {}, stream.tell()
    for key in keys:
        size = np.dtype(_TYPES[kinds[key]]).itemsize * int(np.frombuffer(content, "<i8", 1, at)[0])
        storages[key] = _values(content[at + 8 : at + 8 + size], kinds[key])
        at += 8 + size
    return found, storages


def _values(content: bytes, kind: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, _TYPES[kind]).copy())


def _tensor(call: _Call, storages: Mapping[str, Tensor]) -> Tensor:
    storage, offset, shape, strides = call.arguments[:4]
    return storages[storage.key].as_strided(shape, strides, offset)


def _followed(stream: io.BytesIO) -> tuple[Any, list[_Storage]]:
    """What one pickle describes, and the storages that it names. The stream is then at the end of the pickle."""
    machine = _Machine()
    for operation, argument, _ in pickletools.genops(stream):
        machine.step(operation.name, argument)
    return machine.stack[-1], machine.storages


class _Machine:
    """The stack, the notes of it (memo), and the storages that were named."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.storages: list[_Storage] = []
        self._notes: dict[int, Any] = {}

    def step(self, word: str, argument: Any) -> None:
        """Follow one word. Raises ValueError for one that a dictionary of tensors does not need."""
        stack = self.stack
        if word in ("PROTO", "STOP", "FRAME"):
            return
        if word in _ARGUMENTS:
            stack.append(argument)
        elif word in _CONSTANTS:
            stack.append(_CONSTANTS[word])
        elif word in _EMPTY:
            stack.append(_EMPTY[word]())
        elif word == "MARK":
            stack.append(_MARK)
        elif word == "GLOBAL":
            stack.append(_Name(argument))
        elif word in ("BINPUT", "LONG_BINPUT"):
            self._notes[argument] = stack[-1]
        elif word == "MEMOIZE":
            self._notes[len(self._notes)] = stack[-1]
        elif word in ("BINGET", "LONG_BINGET"):
            stack.append(self._notes[argument])
        else:
            self._combine(word)

    def _combine(self, word: str) -> None:
        stack = self.stack
        if word in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(word[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif word == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif word == "APPENDS":
            items = self._since_mark()
            stack[-1].extend(items)
        elif word == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif word in ("SETITEMS", "SETITEM"):
            pairs = self._since_mark() if word == "SETITEMS" else [stack.pop(-2), stack.pop()]
            target = stack[-1].items if isinstance(stack[-1], _Call) else stack[-1]
            target.update(zip(pairs[::2], pairs[1::2], strict=True))
        elif word == "BINPERSID":
            _, kind, key, *_ = stack.pop()
            stack.append(_Storage(kind.name, str(key)))
            self.storages.append(stack[-1])
        elif word == "REDUCE":
            arguments, name = stack.pop(), stack.pop()
            stack.append(_Call(name.name, arguments, {}))
        elif word == "BUILD":  # attributes of the result, such as the versions of modules
            stack.pop()
        else:
            raise ValueError(f"its pickle has {word}")

    def _since_mark(self) -> list[Any]:
        at = max(i for i, each in enumerate(self.stack) if each is _MARK)
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found
