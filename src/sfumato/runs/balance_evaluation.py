"""Whether balancing helps learners, measured before the balanced data is written."""

from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from sfumato import recipes
from sfumato.data import Dataset
from sfumato.evaluation.balancing import FOLDS, Help, learners, measure, rows
from sfumato.generative_model import GenerativeModel
from sfumato.numerics.random import derive
from sfumato.reporting import Reporter, duration

from .balance_filters import Filters, made
from .balance_models import BUDGET, grown, is_grown, trained_on
from .balance_overlap import relabelled
from .settings import BalanceSettings


def helped(dataset: Dataset, settings: BalanceSettings, recipe: recipes.Recipe, reporter: Reporter) -> Help:
    """Measure whether samples of the smallest class help to tell it from the others (``evaluation.balancing``).

    Models and filters are fitted on the training part of each split alone. Samples that are there twice count once.
    Images and signals are rows of their values to the learners.

    Raises:
        InputError: too few samples of the class.
    """
    assert dataset.labels is not None
    spec = dataset.spec
    values, labels = _different(dataset)
    row = int(np.argmin(np.bincount(labels, minlength=len(spec.class_names))))
    name = spec.class_names[row]
    ways = settings.rows or (*rows.DEFAULT, *(["overlap"] if settings.overlap else []))
    if is_grown(spec):
        alone = recipes.override(recipe, ["conditioning.kind=none"])
    else:
        count = settings.splits * (FOLDS + 1) // 2 * (1 + ("overlap" in ways))
        reporter.info(f"--evaluate trains {count} networks of {duration(settings.budget or BUDGET)} each")

    def make(
        training: npt.NDArray[np.int64], apart: npt.NDArray[np.int64], count: int, seed: int
    ) -> npt.NDArray[np.float64]:
        part = Dataset(values[training], torch.from_numpy(labels[training]), spec)
        part, _ = relabelled(part, np.flatnonzero(np.isin(training, apart)), row)
        if is_grown(spec):
            mine = torch.from_numpy(np.flatnonzero(labels[training] == row))
            draw = partial(_drawn, grown(Dataset(part.values[mine], None, spec), alone), seed)
        else:
            draw = partial(_drawn, trained_on(part, settings), seed, classes=name)
        drawn, _ = made(draw, Filters(part, settings.keep_copies, settings.keep_implausible), row, count, seed)
        return np.asarray(spec.encode(torch.from_numpy(drawn)).flatten(1).numpy(), np.float64)

    x = np.asarray(spec.encode(values.double()).flatten(1).numpy(), np.float64)
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
            ways,
        )


def _drawn(model: GenerativeModel, seed: int, count: int, first: int, classes: str | None = None) -> torch.Tensor:
    return model.sample(count, seed=derive(seed, "make"), first=first, classes=classes)


def _different(dataset: Dataset) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """The samples that differ, in their order, with their classes."""
    assert dataset.labels is not None
    labels = dataset.labels.numpy()
    joined = np.c_[np.nan_to_num(dataset.values.double().flatten(1).numpy(), nan=-1e300), labels]
    kept = np.sort(np.unique(joined, axis=0, return_index=True)[1])
    return dataset.values[torch.from_numpy(kept)], labels[kept]
