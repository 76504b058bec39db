"""Score data under the model of a run, and write the numbers and a picture."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sfumato.data import Dataset, applies, split, standardised
from sfumato.data.order import permutation
from sfumato.denoisers import NOT_GIVEN, Condition
from sfumato.errors import InputError
from sfumato.evaluation.scoring import DataToScore, Score, score
from sfumato.files import digest, strict_json, write_text, write_with
from sfumato.generative_model import GenerativeModel
from sfumato.kinds import load
from sfumato.likelihood import Bound, Estimate, LikelihoodOptions
from sfumato.likelihood.rate_distortion import rate_distortion
from sfumato.report.charts.likelihood import likelihood_figure
from sfumato.reporting import SILENT, Reporter
from sfumato.world import joined

from .device import pick_device
from .folder import RunFolder
from .outputs import require_writable, require_writable_figure, writable_or_here
from .settings import LikelihoodSettings
from .sources import data_like, data_settings, own_data, own_data_at
from .threads import threads

SHOWN = 16  # most and least likely samples in the picture
REFERENCE = 128  # training samples to compare with


@dataclass(frozen=True, eq=False)
class Chosen:
    """The samples that are scored.

    Arguments:
        data: their values and their name.
        rows: their numbers in the source.
        own: the run's own data, if they are of it.
    """

    data: DataToScore
    rows: list[int]
    own: Dataset | None = None


def score_run(settings: LikelihoodSettings, reporter: Reporter = SILENT) -> tuple[dict[str, Any], list[Path]] | None:
    """Score as ``settings`` say, and write the picture, the numbers, and those of each sample if they are asked for.

    Returns:
        The record, as the .json file holds it, and the files; None in all processes but the main one.

    Raises:
        InputError: data or settings that do not fit the model, or a file that cannot be written.
    """
    require_writable_figure("--out", settings.out)
    require_writable("--per-sample", settings.per_sample)
    folder = RunFolder(settings.run)
    model = load(settings.run, pick_device(settings.device))
    _refuse_unused(settings, model)
    picture = settings.out or RunFolder(writable_or_here(folder.path, reporter)).picture("likelihood")
    measuring = resolved(settings, model)
    given = settings_by_source(settings.overrides, (settings.data, settings.against), model)

    def chosen_of(source: str | None) -> Chosen:
        told = settings.against is None  # classes would tell one data set from another
        return choose(source, settings.count, settings.seed, folder, model, reporter, given.get(source or "", {}), told)

    chosen = chosen_of(settings.data)
    against = None if settings.against is None else chosen_of(settings.against).data
    reference = training_samples(folder, model, settings.seed, chosen)
    started = time.monotonic()
    with threads(settings.threads, settings.run), joined(model.device) as world:
        found = score(
            model,
            chosen.data,
            measuring,
            flow=settings.flow,
            reference=reference,
            against=against,
            reporter=reporter,
            world=world,
        )
    if not world.is_main:
        return None
    seconds = time.monotonic() - started
    order = found.bound.bits.argsort()
    shown = min(SHOWN, len(order))
    ends = {"most": order[:shown], "least": order[-shown:].flip(0)}
    record = {
        "run": str(settings.run),
        "weights": digest(folder.weights),
        **_measured(found, chosen, model),
        **{
            name: {"samples": [chosen.rows[i] for i in index.tolist()], "bits": found.bound.bits[index].tolist()}
            for name, index in ends.items()
        },
        "bits": found.bound.bits.tolist(),
        "seed": settings.seed,
        "seconds": round(seconds, 3),
    }
    files = _write(record, picture, [chosen.data.values[index] for index in ends.values()], model)
    if settings.per_sample is not None:
        _write_samples(settings.per_sample, chosen.rows, found)
        files.append(settings.per_sample)
    return record, files


def _refuse_unused(settings: LikelihoodSettings, model: GenerativeModel) -> None:
    """Refuse settings that would change nothing."""
    filling = {"draws": settings.draws, "dequantisation": settings.dequantisation}
    flow = {"tolerance": settings.tolerance, "probes": settings.probes, **filling}
    levels = {"steps": settings.steps, "variance": settings.variance}
    model.require("flow", **{f"--{name}": value for name, value in {**flow, **levels}.items()})
    rules = (
        (not settings.flow, flow, "only the flow uses it, and --no-flow is given"),
        (model.spec.continuous, filling, "this data is continuous, so nothing is dequantised"),
    )
    for holds, values, why in rules:
        given = [name for name, value in values.items() if value is not None]
        if holds and given:
            raise InputError(f"--{given[0]}: {why}; leave it out")


def resolved(settings: LikelihoodSettings, model: GenerativeModel) -> LikelihoodOptions:
    """How to measure: the given settings, and for the others what suits the data."""
    suited = LikelihoodOptions.suited_to(model.spec, settings.seed)
    probes = None if settings.probes == "exact" else settings.probes or suited.probes
    variance = {"beta": 1.0, "posterior": 0.0}
    return replace(
        suited,
        evaluations=settings.evaluations,
        steps=settings.steps,
        variance=suited.variance if settings.variance is None else variance[settings.variance],
        tolerance=settings.tolerance or suited.tolerance,
        probes=probes,
        draws=settings.draws or suited.draws,
        by=settings.dequantisation or suited.by,
        batch=settings.batch,
    )


def settings_by_source(
    overrides: Sequence[str], sources: Sequence[str | None], model: GenerativeModel
) -> dict[str, dict[str, Any]]:
    """For each source the settings of reading it: all that it has, and those that none of the ``sources`` has.

    Raises:
        InputError: settings that are not of data, or not allowed, or settings without a source.
    """
    given = data_settings(model.recipe, overrides)
    named = [source for source in sources if source is not None]
    if given and not named:
        raise InputError(
            f"'{overrides[0]}': the run's own data is read as it was in training; name DATA, or leave it out"
        )
    return {
        source: {
            name: value
            for name, value in given.items()
            if applies(source, name) or not any(applies(other, name) for other in named)
        }
        for source in named
    }


def choose(
    source: str | None,
    count: int,
    seed: int,
    folder: RunFolder | None,
    model: GenerativeModel,
    reporter: Reporter = SILENT,
    given: Mapping[str, Any] = MappingProxyType({}),
    told: bool = True,
) -> Chosen:
    """``count`` samples of ``source``, at most, chosen by ``seed``; without a source, of the run's held-out data.

    If the run's own data is at ``source``, where it may have moved to, they are of its held-out part too. ``given`` are
    settings of reading ``source``, by their names in ``DataOptions``. A conditional model is ``told`` their classes.

    Raises:
        InputError: data that cannot be read.
    """
    own: Dataset | None = None
    if source is None:
        assert folder is not None
        dataset = own = own_data(folder, reporter)
    else:
        dataset = data_like(source, model, reporter, given)
        if folder is not None and not given and (own := own_data_at(source, dataset, folder)) is not None:
            reporter.info(f"{source} is the data that {folder} was trained on; its held-out part is scored")
            dataset = own
    rows, name = torch.arange(len(dataset)), dataset.spec.source
    if own is not None:
        training = model.recipe.training
        _, rows = split(len(dataset), training.held_out, training.seed)
        name = f"the held-out part of {name}"
    rows = rows[permutation(len(rows), seed, "scored")[:count]].sort().values
    cond = condition_of(dataset, model, rows) if told else None
    if cond is not None:
        given = {"classes": cond.classes, "conditions": cond.vector}
        name = f"{name}, given its {' and '.join(part for part, value in given.items() if value is not None)}"
    return Chosen(DataToScore(dataset.rows(rows), name, cond), rows.tolist(), own)


def condition_of(dataset: Dataset, model: GenerativeModel, rows: Tensor) -> Condition | None:
    """The classes and numbers of these samples, by their names in the model's data; None where either has none.

    A class that the model does not know is not given, nor is a number that the data does not have.
    """
    classes = given = None
    if dataset.labels is not None and model.recipe.takes_classes:
        known = {name: index for index, name in enumerate(model.spec.class_names)}
        indices = torch.tensor([known.get(name, NOT_GIVEN) for name in dataset.spec.class_names])
        classes = indices[dataset.labels[rows]]
    if dataset.conditions is not None and model.recipe.takes_quantities:
        at = {each.name: k for k, each in enumerate(dataset.spec.conditions)}
        absent = torch.full((len(rows),), torch.nan, dtype=torch.float64)
        columns = [
            dataset.conditions[rows, at[each.name]] if each.name in at else absent for each in model.spec.conditions
        ]
        given = standardised(model.spec.conditions, torch.stack(columns, 1))
    if classes is None and given is None:
        return None
    if given is None:
        return Condition(classes=classes).to(model.device)
    known_numbers = ~given.isnan()
    return Condition(classes, torch.where(known_numbers, given, 0.0), known_numbers).to(model.device)


def training_samples(folder: RunFolder, model: GenerativeModel, seed: int, scored: Chosen) -> DataToScore | None:
    """Training samples to compare the ``scored`` ones with, told their classes if those are; None if they are gone."""
    try:
        dataset = scored.own or own_data(folder)
    except InputError:
        return None
    training = model.recipe.training
    train, _ = split(len(dataset), training.held_out, training.seed)
    chosen = train[permutation(len(train), seed, "reference")[:REFERENCE]]
    return DataToScore(
        dataset.rows(chosen),
        "training data",
        None if scored.data.cond is None else condition_of(dataset, model, chosen),
    )


def _measured(found: Score, chosen: Chosen, model: GenerativeModel) -> dict[str, Any]:
    """The numbers of a score, as JSON holds them."""
    spec, values, bound = model.spec, chosen.data.values, found.bound
    against = None
    if found.against is not None:
        against = {
            "name": found.against.name,
            "bits": found.against.bound.bits.tolist(),
            "bits_per_dim": _numbers(found.against.bound.estimate),
            "auroc": {name: _finite(vars(each)) for name, each in found.auroc.items()},
        }
    return {
        "data": chosen.data.name,
        "samples": len(values),
        "unit": "" if spec.unit_scale else " (standardised)",
        "deviation": float(values.double().std() if spec.unit_scale else 1.0),
        "density": spec.continuous,
        "bound": {
            **_numbers(bound.estimate),
            "method_error_trusted": bound.estimate.trusted,
            "terms": {name: _numbers(term) for name, term in bound.terms.items()},
            "evaluations": bound.evaluations,
        },
        "flow": None
        if found.flow is None
        else {
            **_numbers(found.flow.estimate),
            "method_error_trusted": found.flow.estimate.trusted,
            "evaluations": found.flow.evaluations,
        },
        "scores": {
            name: {"mean": float(s.mean()), "std": float(s.std()) if len(s) > 1 else None}
            for name, s in found.scores.items()
        },
        "against": against,
        "rate_distortion": _curve(model, bound),
    }


def _curve(model: GenerativeModel, bound: Bound) -> dict[str, list[float]] | None:
    if model.denoiser is None:
        return None
    curve = rate_distortion(bound)
    return {
        "logsnr": curve.logsnr.tolist(),
        "t": model.denoiser.process.schedule.time(curve.logsnr).clamp(0, 1).tolist(),
        "rate": curve.rate.tolist(),
        "rmse": (curve.rmse * (model.spec.unit_scale or 1.0)).tolist(),
    }


def _numbers(estimate: Estimate) -> dict[str, float | None]:
    return _finite({"bits_per_dim": estimate.mean, "standard_error": estimate.error, "method_error": estimate.method})


def _finite(numbers: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _write(record: dict[str, Any], picture: Path, ends: list[Tensor], model: GenerativeModel) -> list[Path]:
    numbers = picture.with_suffix(".json")
    write_text(numbers, strict_json(record, indent=2) + "\n")
    drawn = likelihood_figure(record, ends[0].numpy(), ends[1].numpy(), model.spec)
    write_with(picture, lambda beside: drawn.save(beside, "PNG"))
    return [picture, numbers]


def _write_samples(path: Path, rows: list[int], found: Score) -> None:
    """Write the numbers of each sample as a line of a .csv file."""
    bound = found.bound
    nats = bound.dimensions * math.log(2)
    columns = {
        "sample": rows,
        "bound_bits_per_dim": bound.bits.tolist(),
        "bound_method_error": (bound.variance.sqrt() / nats).tolist(),
        "prior": (bound.prior / nats).tolist(),
        "steps": (bound.steps / nats).tolist(),
        "decoder": (bound.decoder / nats).tolist(),
    }
    if found.flow is not None:
        columns["flow_bits_per_dim"] = found.flow.bits.tolist()
    columns |= {name: each.tolist() for name, each in found.scores.items() if name != "bits"}
    lines = [",".join(columns), *(",".join(f"{v:.9g}" for v in row) for row in zip(*columns.values(), strict=True))]
    write_text(path, "\n".join(lines) + "\n")
