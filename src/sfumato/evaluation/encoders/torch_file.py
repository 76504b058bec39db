"""Tensors of an old PyTorch file, read as bytes: its pickles are looked at word by word, and nothing in them is run.

Such a file is five pickles and then the numbers of each storage: an int64 count, and the values. The fourth pickle has
the name of each tensor, the key of its storage, its shape and strides; the fifth lists the keys in the order of the
storages. Only a file of a known digest is read, so this need not understand any other.
"""

import io
import pickletools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.errors import InputError
from sfumato.files import digest

_COUNTERS = "num_batches_tracked"  # the only storages of 8 bytes a number


def read_tensors(path: Path, sha256: str) -> Mapping[str, Tensor]:
    """The float32 tensors of the file by name, in its order.

    Raises:
        InputError: the file is missing, or has another digest.
    """
    if not path.is_file() or digest(path) != sha256:
        raise InputError(f"{path}: is missing, or not the file of weights that is known; install its package again")
    content = path.read_bytes()
    stream = io.BytesIO(content)
    pickles = [list(pickletools.genops(stream)) for _ in range(5)]
    described = _described(pickles[3])
    keys = [str(argument) for operation, argument, _ in pickles[4] if operation.name == "BINUNICODE"]
    storages, at = {}, stream.tell()
    for key in keys:
        count = int(np.frombuffer(content, "<i8", 1, at)[0])
        wide = described[key][0].endswith(_COUNTERS)
        if not wide:
            storages[key] = torch.from_numpy(np.frombuffer(content, "<f4", count, at + 8).copy())
        at += 8 + (8 if wide else 4) * count
    return {
        name: storages[key].as_strided(numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :])
        for key, (name, numbers) in described.items()
        if key in storages
    }


def _described(pickled: Sequence[tuple[Any, Any, int | None]]) -> dict[str, tuple[str, list[int]]]:
    """By the key of its storage: the name of each tensor, and its shape followed by its strides."""
    found: dict[str, tuple[str, list[int]]] = {}
    words: list[str] = []
    numbers: list[int] = []
    for operation, argument, _ in pickled:
        if operation.name == "BINUNICODE" and argument not in ("storage", "cpu"):
            words.append(str(argument))
        elif operation.name == "BINPERSID":  # after the name of a tensor and the key of its storage
            numbers = []
            found[words[-1]] = words[-2], numbers
        elif operation.name in ("BININT", "BININT1", "BININT2"):
            numbers.append(int(argument))
        elif operation.name == "NEWFALSE":  # after the offset, the shape and the strides
            del numbers[:1]
            numbers = []
    return found
