"""Samples of other classes that look like the smallest one, with labels of their own."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from sfumato.data import Dataset
from sfumato.evaluation.balancing import overlapping

FEWEST = 2  # samples of a label


def smallest(dataset: Dataset) -> int:
    """The class with the fewest samples."""
    return int(np.argmin(dataset.spec.class_counts))


def find_apart(dataset: Dataset, row: int) -> npt.NDArray[np.int64]:
    """The numbers of the samples that look like class ``row`` and are of another."""
    assert dataset.labels is not None
    x = np.asarray(dataset.spec.encode(dataset.values.double()).flatten(1).numpy(), np.float64)
    return np.flatnonzero(overlapping(x, dataset.labels.numpy() == row))


def relabelled(dataset: Dataset, apart: npt.NDArray[np.int64], row: int) -> tuple[Dataset, dict[int, int]]:
    """The data with labels of their own for the samples ``apart``, and the number of the new label by the old one's.

    A class keeps its label where fewer than ``FEWEST`` samples would get the new one or keep the old one.
    """
    assert dataset.labels is not None
    spec, labels = dataset.spec, dataset.labels.numpy().copy()
    names, new = list(spec.class_names), {}
    for old in sorted(set(labels[apart].tolist())):
        mine = apart[dataset.labels.numpy()[apart] == old]
        if FEWEST <= len(mine) <= int((labels == old).sum()) - FEWEST:
            new[old] = len(names)
            labels[mine] = len(names)
            names.append(f"{spec.class_names[old]} like {spec.class_names[row]}")
    counts = tuple(np.bincount(labels, minlength=len(names)).tolist())
    spec = replace(spec, class_names=tuple(names), class_counts=counts, count=len(labels))
    return Dataset(dataset.values, torch.from_numpy(labels), spec), new
