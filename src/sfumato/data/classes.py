"""Classes by their names, and the classes of samples that are drawn."""

import difflib
import math
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import InputError
from .spec import DataSpec

_GOLDEN = (math.sqrt(5) - 1) / 2
_MOST_NAMED = 12  # classes in a message


def class_indices(spec: DataSpec, names: Sequence[str]) -> Int64[Tensor, "n"]:
    """The indices of classes by their names.

    Raises:
        InputError: a name that is not one of the data's classes; the message has the nearest ones.
    """
    known = {name: index for index, name in enumerate(spec.class_names)}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            fix = f"did you mean {' or '.join(near)}?" if near else f"the classes are {shortened(list(known))}"
            raise InputError(f"class '{name}': is none of the {len(known)} classes of {spec.source}; {fix}")
    return torch.tensor([known[name] for name in names], dtype=torch.int64)


def class_shares(spec: DataSpec, count: int, first: int = 0) -> Int64[Tensor, "count"]:
    """Classes of samples ``first`` to before ``first + count``, in the shares that they have in the data.

    Sample i gets the class at the quantile ``(i + 1/2) phi mod 1``, phi the golden ratio: a function of i alone, and
    among any n samples in sequence the count of each class is within about log n of its share.
    """
    edges = torch.tensor(spec.class_counts, dtype=torch.float64).cumsum(0) / sum(spec.class_counts)
    quantile = ((first + torch.arange(count, dtype=torch.float64) + 0.5) * _GOLDEN) % 1.0
    return torch.searchsorted(edges, quantile, right=True).clamp(max=len(edges) - 1)


def classes_in_words(spec: DataSpec) -> str:
    """The classes with their counts: "3 classes: cat (50), dog (48), zebra (7)"."""
    counted = [f"{name} ({n:,})" for name, n in zip(spec.class_names, spec.class_counts, strict=True)]
    return f"{len(counted)} classes: {shortened(counted)}"


def shortened(words: Sequence[str]) -> str:
    """The words, separated by commas; of many the first ones, and how many more there are."""
    if len(words) <= _MOST_NAMED:
        return ", ".join(words)
    return f"{', '.join(words[: _MOST_NAMED - 1])} and {len(words) - _MOST_NAMED + 1} more"
