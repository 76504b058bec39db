"""The functions for Python: train a model, score data under it, and judge its samples, with one call each."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Shaped

from sfumato import kinds
from sfumato.data.order import permutation
from sfumato.errors import InputError
from sfumato.evaluation import evaluate as evaluation
from sfumato.evaluation import scoring
from sfumato.evaluation.evaluate import Evaluation
from sfumato.evaluation.scoring import DataToScore, Score
from sfumato.evaluation.spaces import Space, spaces_named
from sfumato.files import expanded, write_with
from sfumato.generative_model import GenerativeModel
from sfumato.likelihood import LikelihoodOptions
from sfumato.numerics.integers import optional, whole
from sfumato.reporting import Reporter

from . import evaluating, training
from .console import Console
from .device import pick_device
from .folder import RunFolder
from .scoring import Chosen, choose, settings_by_source, training_samples
from .settings import DEFAULT, TrainSettings
from .sources import data_like, own_data

Source = str | Path | Shaped[np.ndarray, "..."] | torch.Tensor
"""Data: the name of a built-in data set, a path, or an array with one sample per row."""


def train(
    source: Source,
    recipe: str = DEFAULT,
    *,
    budget: float | None = None,
    steps: SupportsIndex | None = None,
    settings: Mapping[str, object] | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> GenerativeModel:
    """Train a model, as ``sfumato train`` does, and return it ready to sample.

    The run folder holds the model, its checkpoints, samples and a report. Ctrl-C, or stopping the cell of a notebook,
    ends training early and returns the model as it is then; ``sfumato train --resume`` continues it.

        >>> import sfumato
        >>> model = sfumato.train("moons", steps=200, settings={"network.width": 32}, out="runs/moons")
        >>> model.sample(4, seed=0).shape
        torch.Size([4, 2])

    Arguments:
        source: a folder of images, an .npy or .npz file, the name of a built-in data set, or an array (N, *). An array
            is written to runs/data first, so that the run can be resumed.
        recipe: a preset or the path of a YAML file.
        budget: seconds for all of it: training, samples and the report.
        steps: training steps; without ``budget`` and ``steps``, the recipe's number of steps.
        settings: recipe settings by their dotted names, such as {"training.batch": 64}.
        out: the run folder; runs/SOURCE-RECIPE by default.
        device: "cpu", "cuda", or "auto" for a GPU if there is one.
        reporter: receives messages and progress; by default they are printed, with a progress bar.

    Returns:
        The model with averaged weights, on the device of the training.

    Raises:
        InputError: data, settings or a folder that cannot be used.
        NonFiniteError: the loss is not finite.
    """
    reporter = reporter or Console()
    chosen = TrainSettings(
        source=_path_of(source),
        overrides=_overrides(settings),
        recipe=recipe,
        budget=budget,
        steps=optional("steps", steps, 1),
        out=None if out is None else Path(out),
        device=device,
    )
    found = training.train(chosen, reporter)
    for line in found.describe():
        reporter.info(line)
    return found.model


def score(
    model: GenerativeModel | str | Path,
    data: Source | None = None,
    *,
    against: Source | None = None,
    count: SupportsIndex = 128,
    evaluations: SupportsIndex | None = 100,
    flow: bool = True,
    seed: SupportsIndex = 0,
    settings: Mapping[str, object] | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Score:
    """Compute the likelihood of data under a model, as ``sfumato likelihood`` does, without writing files.

        >>> import sfumato
        >>> model = sfumato.train("moons", steps=200, settings={"network.width": 32})
        >>> score = sfumato.score(model, "moons", count=32)     # fresh samples of the same toy
        >>> score.bits_per_dim < sfumato.score(model, "checkerboard", count=32, flow=False).bits_per_dim
        True

    Arguments:
        model: a model, or the folder of a run. Given a run, its training data is compared with too.
        data: anything that ``train`` takes, in the same units; by default the run's own held-out data.
        against: a second data set, which ``Score.auroc`` says how well the scores separate from the first.
        count: number of samples to score, at most.
        evaluations: approximate network evaluations per sample for the bound; None for every level of a chain.
        flow: whether to compute the exact likelihood along the flow too, which takes longer.
        seed: the random seed.
        settings: how to read the data, by the dotted names of recipe settings.
        device: where to load a run: "cpu", "cuda", or "auto".
        reporter: receives messages and progress; by default they are printed.

    Returns:
        The bound, the likelihood along the flow, and the out-of-distribution scores.

    Raises InputError for data that cannot be read or does not fit the model.
    """
    reporter, folder = reporter or Console(), RunFolder(expanded(model)) if isinstance(model, str | Path) else None
    most, number = whole("count", count, 1), whole("seed", seed)
    loaded = model if isinstance(model, GenerativeModel) else kinds.load(model, pick_device(device))
    if data is None and folder is None:
        raise InputError("data: is missing; give data to score, or the folder of a run in place of the model")
    given = settings_by_source(_overrides(settings), [_path(each) for each in (data, against)], loaded)

    def chosen(source: Source | None) -> Chosen:
        if not isinstance(source, str | Path | None):
            return _from_array(source, most, number)
        how = given.get(str(source), {})
        return choose(_path(source), most, number, folder, loaded, reporter, how, against is None)

    return scoring.score(
        loaded,
        (first := chosen(data)).data,
        replace(LikelihoodOptions.suited_to(loaded.spec, number), evaluations=optional("evaluations", evaluations, 1)),
        flow=flow,
        reference=None if folder is None else training_samples(folder, loaded, number, first),
        against=None if against is None else chosen(against).data,
        reporter=reporter,
    )


def evaluate(
    model: GenerativeModel | str | Path,
    data: Source | None = None,
    *,
    train: Source | None = None,
    count: SupportsIndex = 1000,
    features: Sequence[str | Space] | None = None,
    seed: SupportsIndex = 0,
    settings: Mapping[str, object] | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Evaluation:
    """Judge samples of a model by real data, as ``sfumato evaluate`` does, without writing files.

        >>> import sfumato
        >>> model = sfumato.train("moons", steps=200, settings={"network.width": 32})
        >>> sfumato.evaluate(model, "moons", count=200).value("sliced").value < 2     # fresh data of the same toy
        True

    Arguments:
        model: a model, or the folder of a run.
        data: real data, as ``train`` takes it; half of it is compared with the samples, and the other half stands
            beside them. By default the run's own.
        train: the training data of ``model``, to look for copies; a run knows its own.
        count: number of samples, at most.
        features: names of feature spaces, or spaces of your own; by default those that suit the data.
        seed: the random seed.
        settings: how to read ``data``, by the dotted names of recipe settings.
        device: where to load a run.
        reporter: receives messages and progress; by default they are printed.

    Returns:
        Every measure with its interval, that of real data, and whether the model copies; it prints as a table.

    Raises:
        InputError: data that cannot be read, does not fit the model, or is too little.
    """
    reporter, folder = reporter or Console(), RunFolder(expanded(model)) if isinstance(model, str | Path) else None
    most, number = whole("count", count, 1), whole("seed", seed)
    loaded = model if isinstance(model, GenerativeModel) else kinds.load(model, pick_device(device))
    given = settings_by_source(_overrides(settings), [_path(data)], loaded)

    def values(source: Source) -> tuple[torch.Tensor, str]:
        if not isinstance(source, str | Path):
            return _from_array(source, len(source), number).data.values, "the given array"
        found = data_like(str(source), loaded, reporter, given.get(str(source), {}))
        return found.rows(found.fitting(permutation(len(found), number, "evaluated"))), found.spec.source

    if data is not None:
        own = None if folder is None else evaluating.own_parts(folder, loaded, number)
        real = evaluating.halves(*values(data), most, loaded, own)
    elif folder is not None:
        real = evaluating.own_real_data(own_data(folder, reporter), loaded, most, number)
    else:
        raise InputError("data: is missing; give real data, or the folder of a run in place of the model")
    if train is not None:
        real = replace(real, train=values(train)[0], held_out=real.beside)
    spaces = spaces_named(features, loaded.spec, train=real.train, reporter=reporter)
    samples = evaluating.drawn(loaded, min(most, len(real.reference)), number, reporter)
    return evaluation.evaluate(evaluating.rounded(samples, loaded), real, loaded.spec, spaces, reporter)


def _from_array(source: Shaped[np.ndarray, "n *s"] | torch.Tensor, count: int, seed: int) -> Chosen:
    values = source.detach().cpu() if isinstance(source, torch.Tensor) else torch.as_tensor(source)
    rows = permutation(len(values), seed, "scored")[:count].sort().values
    return Chosen(DataToScore(values[rows], "the given array"), rows.tolist())


def _path(source: Source | None) -> str | None:
    return str(source) if isinstance(source, str | Path) else None


def _overrides(settings: Mapping[str, object] | None) -> tuple[str, ...]:
    return tuple(_override(key, value) for key, value in (settings or {}).items())


def _override(key: str, value: object) -> str:
    """A setting as the command line writes it."""
    try:
        return f"{key}={json.dumps(value)}"
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise InputError(f"settings['{key}']: {kind} is not allowed; give a number, text, list or None") from None


def _path_of(source: Source) -> str:
    """A name or a path as it is; an array is written to a file named by its contents."""
    if isinstance(source, str | Path):
        return str(source)
    array = np.ascontiguousarray(source.detach().cpu().numpy() if isinstance(source, torch.Tensor) else source)
    if array.dtype.hasobject:
        raise InputError("source: an array of Python objects cannot be read; give an array of numbers")
    contents = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()
    path = Path("runs") / "data" / f"array-{contents[:8]}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_with(path, lambda beside: np.save(beside, array, allow_pickle=False))
    return str(path)
