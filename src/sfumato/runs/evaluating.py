"""Draw samples of a model, judge them by real data, and write the numbers into the run."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.data import Dataset, split
from sfumato.data.order import permutation
from sfumato.errors import InputError
from sfumato.evaluation.by_class import Labels
from sfumato.evaluation.evaluate import FEWEST, Evaluation, RealData, evaluate
from sfumato.evaluation.spaces import spaces_named
from sfumato.files import write_with
from sfumato.generative_model import GenerativeModel
from sfumato.kinds import load
from sfumato.model_folder import weights_digest
from sfumato.reporting import SILENT, Reporter, duration

from .device import pick_device
from .folder import RunFolder
from .outputs import writable_or_here
from .scoring import settings_by_source
from .settings import EvaluateSettings
from .sources import data_like, own_data, own_data_at
from .threads import threads

_FIRST = 32  # samples that are drawn to forecast the time of the others


def evaluate_run(
    settings: EvaluateSettings, reporter: Reporter = SILENT
) -> tuple[Evaluation, dict[str, Any], list[Path]]:
    """Evaluate the model of a run as ``settings`` say, and write evaluation.json and evaluation.npz.

    Returns:
        The evaluation, the record as evaluation.json holds it, and the files that were written.

    Raises:
        InputError: data or settings that do not fit the model, too little data, or a folder that cannot be written.
    """
    folder = RunFolder(settings.run)
    model = load(settings.run, pick_device(settings.device))
    target = RunFolder(writable_or_here(folder.path, reporter))
    given = settings_by_source(settings.overrides, (settings.against,), model)
    if settings.against is None:
        real = own_real_data(own_data(folder, reporter), model, settings.count, settings.seed)
    else:
        real = _other_real_data(settings.against, folder, model, settings, given.get(settings.against, {}), reporter)
    started = time.monotonic()
    with threads(settings.threads, folder.path):
        spaces = spaces_named(
            settings.features, model.spec, train=real.train, inception_weights=settings.inception, reporter=reporter
        )
        samples = rounded(drawn(model, min(settings.count, len(real.reference)), settings.seed, reporter), model)
        sampling = time.monotonic() - started
        budgets = by_evaluations(model, settings.nfe, len(samples), settings.seed, reporter)
        found = evaluate(samples, real, model.spec, spaces, reporter, budgets)
    record = {
        "run": str(settings.run),
        "weights": weights_digest(folder.path),
        **found.to_dict(),
        "sampler": dict(model.plan().record),
        "seed": settings.seed,
        "seconds": {"sampling": sampling, "total": time.monotonic() - started},
    }
    return found, record, _write(target, found, record)


def own_parts(folder: RunFolder, model: GenerativeModel, seed: int) -> tuple[Tensor, Tensor] | None:
    """The training data of a run and its held-out data, each in random order; None where the data is gone."""
    try:
        dataset = own_data(folder)
    except InputError:
        return None
    return _parts(dataset, model, seed)


def _other_real_data(
    source: str,
    folder: RunFolder,
    model: GenerativeModel,
    settings: EvaluateSettings,
    given: dict[str, Any],
    reporter: Reporter,
) -> RealData:
    """The data at ``source``; if that is the run's own, which may have moved, as ``own_real_data`` takes it."""
    other = data_like(source, model, reporter, given)
    if not given and (own := own_data_at(source, other, folder)) is not None:
        reporter.info(f"{source} is the data that {folder} was trained on")
        return own_real_data(own, model, settings.count, settings.seed)
    values = other.rows(other.fitting(permutation(len(other), settings.seed, "evaluated")))
    return halves(values, other.spec.source, settings.count, model, own_parts(folder, model, settings.seed))


def own_real_data(dataset: Dataset, model: GenerativeModel, count: int, seed: int) -> RealData:
    """The run's own data, to judge at most ``count`` samples.

    Beside the samples stands held-out data; where there is too little, training data that is not in the reference
    fills it up.

    Raises:
        InputError: it is too little.
    """
    train, held_out = _parts(dataset, model, seed)
    used = _size(len(dataset), count, dataset.spec.source)
    missing = max(used - len(held_out), 0)
    beside = torch.cat((held_out[:used], train[:missing]))
    reference = train[missing : missing + used]
    labels = None
    if dataset.labels is not None:
        of_train, of_held_out = (dataset.labels[part] for part in _order(dataset, model, seed))
        there = torch.cat((of_held_out[:used], of_train[:missing]))
        asked = model.condition(used)  # the classes that ``drawn`` will draw
        of_samples = None if asked is None else asked.classes
        labels = Labels(dataset.spec.class_names, of_train[missing : missing + used], there, of_samples)
    return RealData(dataset.spec.source, reference, beside, train, held_out, labels)


def halves(
    values: Tensor, name: str, count: int, model: GenerativeModel, own: tuple[Tensor, Tensor] | None = None
) -> RealData:
    """Real data in random order, one half as the reference, the other half beside the samples.

    Arguments:
        values: in data units.
        name: its name.
        count: points in each half, at most.
        model: the model.
        own: the training data of the model and its held-out data, to look for copies.

    Raises:
        InputError: values that cannot be the model's, or too few.
    """
    model.spec.check(values, name)
    used = _size(len(values), count, name)
    train, held_out = (None, None) if own is None else own
    return RealData(name, values[:used], values[used : 2 * used], train, held_out)


def drawn(
    model: GenerativeModel, count: int, seed: int, reporter: Reporter = SILENT, steps: int | None = None
) -> Tensor:
    """Samples in data units. The first few are timed, and the time of the others is reported before they are drawn."""
    started = time.monotonic()
    first = model.sample(min(count, _FIRST), seed=seed, steps=steps)
    if count <= _FIRST:
        return first
    left = count - _FIRST
    by = "" if steps is None else f" by {steps} evaluations"
    reporter.info(f"drawing {count} samples{by}: at most {duration((time.monotonic() - started) * left / _FIRST)}")
    with reporter.task("sampling") as task:
        others = model.sample(left, seed=seed, steps=steps, first=_FIRST, progress=task.count)
    return torch.cat((first, others))


def by_evaluations(
    model: GenerativeModel, numbers: Sequence[int], count: int, seed: int, reporter: Reporter = SILENT
) -> dict[int, Tensor]:
    """Samples in data units by each number of evaluations, all from the same noise.

    Raises:
        InputError: a model without a choice of samplers.
    """
    if numbers:
        model.require("sampler")
    return {
        number: rounded(drawn(model, count, seed, reporter, steps=number), model) for number in sorted(set(numbers))
    }


def rounded(samples: Tensor, model: GenerativeModel) -> Tensor:
    """Samples on the levels of the data, as they would be written to a file; continuous ones as they are."""
    return model.spec.transform.round_to_levels(samples)


def _parts(dataset: Dataset, model: GenerativeModel, seed: int) -> tuple[Tensor, Tensor]:
    first, second = (dataset.rows(dataset.fitting(part)) for part in _order(dataset, model, seed))
    return first, second


def _order(dataset: Dataset, model: GenerativeModel, seed: int) -> tuple[Tensor, Tensor]:
    """The numbers of the training samples and of the held-out ones, each in random order."""
    training = model.recipe.training
    parts = split(len(dataset), training.held_out, training.seed)
    first, second = (part[permutation(len(part), seed, "evaluated")] for part in parts)
    return first, second


def _size(available: int, count: int, name: str) -> int:
    """Points to compare with: at most ``count``, and as many again must be left to stand beside the samples."""
    used = min(count, available // 2)
    if used < FEWEST:
        least = f"at least {2 * FEWEST}, and a count of at least {FEWEST}"
        raise InputError(f"{name}: {available} samples, or a count of {count}, are too few; give {least}")
    return used


def _write(folder: RunFolder, found: Evaluation, record: dict[str, Any]) -> list[Path]:
    files = [folder.write_measurement("evaluation", record)]
    if found.closest is not None and found.neighbours is not None:
        arrays: dict[str, Any] = {
            "samples": found.samples[found.closest].numpy(),
            "neighbours": found.neighbours.numpy(),
            "ratios": found.copies[0].ratios[found.closest].numpy(),
            "distances": found.copies[0].distances.numpy(),
            "held_out_distances": found.copies[0].held_out_distances.numpy(),
        }
        write_with(folder.evaluation, lambda beside: np.savez_compressed(beside, **arrays))
        files.append(folder.evaluation)
    return files
