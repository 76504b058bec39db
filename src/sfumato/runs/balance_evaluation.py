"""Whether balancing a table helps learners, measured before the table is written."""

import numpy as np
import numpy.typing as npt
import torch

from sfumato import kinds, recipes
from sfumato.data import Dataset
from sfumato.evaluation.balancing import Help, learners, measure, rows
from sfumato.model import Model
from sfumato.numerics.random import derive
from sfumato.reporting import Reporter
from sfumato.training.trees import Grower

from .balance_filters import Filters, made
from .settings import BalanceSettings


def helped(dataset: Dataset, settings: BalanceSettings, recipe: recipes.Recipe, reporter: Reporter) -> Help:
    """Measure whether rows of the smallest class help to tell it from the others (``evaluation.balancing``).

    Trees and filters are fitted on the training rows of each split alone. Rows that are there twice count once.

    Raises:
        InputError: too few rows of the class.
    """
    assert dataset.labels is not None
    spec = dataset.spec
    values, labels = _different(dataset)
    row = int(np.argmin(np.bincount(labels, minlength=len(spec.class_names))))
    name = spec.class_names[row]
    alone = recipes.override(recipe, ["conditioning.kind=none"])

    def make(training: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.float64]:
        part = Dataset(values[training], torch.from_numpy(labels[training]), spec)
        model = kinds.fresh(alone, spec)
        assert isinstance(model, Model)
        Grower(model, part.samples().take(torch.from_numpy(np.flatnonzero(labels[training] == row)))).grow()
        filters = Filters(part, settings.keep_copies, settings.keep_implausible)
        drawn, _ = made(lambda n, first: model.sample(n, seed=derive(seed, "make"), first=first), filters, row, count)
        return np.asarray(spec.encode(torch.from_numpy(drawn)).numpy(), np.float64)

    x = np.asarray(spec.encode(values.double()).numpy(), np.float64)
    with reporter.task("measuring whether it helps") as task:
        return measure(
            x,
            labels == row,
            name,
            make,
            settings.splits,
            settings.seed,
            task.count,
            settings.learners or learners.DEFAULT,
            settings.rows or rows.DEFAULT,
        )


def _different(dataset: Dataset) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """The rows that differ, in their order, with their classes."""
    assert dataset.labels is not None
    labels = dataset.labels.numpy()
    joined = np.c_[np.nan_to_num(dataset.values.double().numpy(), nan=-1e300), labels]
    kept = np.sort(np.unique(joined, axis=0, return_index=True)[1])
    return dataset.values[torch.from_numpy(kept)], labels[kept]
