"""Measure the error of every sampler at every budget, for an oracle or a trained model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfumato.denoisers import Denoiser
from sfumato.errors import InputError
from sfumato.files import digest, strict_json, write_text, write_with
from sfumato.guided import as_sampled
from sfumato.model import Model
from sfumato.report.charts.certify import certificate
from sfumato.reporting import SILENT, Reporter
from sfumato.sampling import certification
from sfumato.sampling.certification import Entry, certify, measured_order, reference
from sfumato.sampling.methods import METHODS
from sfumato.sampling.oracles import ORACLES
from sfumato.sampling.tableau import Tableau

from .choosing import with_choice
from .device import pick_device
from .folder import RunFolder
from .loading import load_with_samplers
from .outputs import require_writable_figure, writable_or_here
from .settings import CertifySettings
from .threads import threads

FEWEST = 64  # samples by default, at least
SECONDS = 30.0  # for the choice of a model's "auto", where it has none
_FIRST = ("auto", "fitted")  # rows at the top
_Tables = Mapping[str, Mapping[int, Tableau]]


@dataclass(frozen=True, eq=False)
class Target:
    """A denoiser whose samplers are measured.

    Arguments:
        name: its name, for people.
        denoiser: the denoiser.
        shape: the shape of its samples.
        fitted: its own fitted tables, {"fitted": {evaluations: table}}; empty where it has none.
        model: the trained model; None for an oracle.
        most_samples: the default number of samples, at most.
        most_numbers: the default number of values in all samples, at most.
    """

    name: str
    denoiser: Denoiser
    shape: tuple[int, ...]
    fitted: _Tables
    model: Model | None
    most_samples: int
    most_numbers: int


def run_certification(settings: CertifySettings, reporter: Reporter = SILENT) -> tuple[dict[str, Any], list[Path]]:
    """Measure as ``settings`` say, and write the figure and the numbers.

    Returns:
        The record, as the .json file holds it, and the files that were written.

    Raises:
        InputError: an unknown target or method, a budget or a number of samples that cannot be measured.
    """
    picture = _picture(settings, reporter)
    with threads(settings.threads, None if settings.is_oracle else settings.target):
        record = _certification(settings, reporter)
    return record, [] if picture is None else _write(record, picture)


def _certification(settings: CertifySettings, reporter: Reporter) -> dict[str, Any]:
    target = _target(settings)
    methods, fitted = _methods(settings, target)
    budgets = settings.nfe or certification.BUDGETS
    if max(budgets) > certification.MOST:
        raise InputError(
            f"--nfe: {max(budgets)} is too close to the fine solution's {certification.FINE:,} evaluations; give at "
            f"most {certification.MOST}"
        )
    if settings.samples is not None and settings.samples < 4:
        raise InputError(f"--samples: {settings.samples} samples cannot be halved and compared; give at least 4")
    samples = settings.samples or max(FEWEST, min(target.most_samples, target.most_numbers // math.prod(target.shape)))
    with reporter.task("fine solution") as task:
        cond = None if target.model is None else target.model.condition(samples)
        paths, own = reference(
            target.denoiser, target.shape, samples, seed=settings.seed, cond=cond, progress=task.count
        )
    tables = _own(target, budgets, reporter) if "auto" in methods else None
    with reporter.task("certifying") as task:
        entries = certify(
            target.denoiser,
            paths,
            methods=methods,
            budgets=budgets,
            extra=fitted,
            own=tables,
            seed=settings.seed,
            progress=task.count,
        )
    orders: dict[str, float | None] = {}
    with reporter.task("orders") as task:
        for name in methods:
            orders[name] = measured_order(name)
            task.count(len(orders), len(methods))
    return {
        "target": target.name,
        **({} if settings.is_oracle else {"weights": digest(RunFolder(Path(settings.target)).weights)}),
        "shape": list(target.shape),
        "samples": samples,
        "seed": settings.seed,
        "deviation": float(paths.x_0.std()),
        "fine": {"evaluations": certification.FINE, "rms": own.rms, "median": own.median},
        "budgets": list(budgets),
        "methods": rank(entries, orders),
    }


def _picture(settings: CertifySettings, reporter: Reporter) -> Path | None:
    """The figure's path; None for no figure."""
    if settings.out is None and settings.is_oracle:
        return None
    if settings.out is None:
        run = Path(settings.target)
        return RunFolder(writable_or_here(run, reporter) if run.is_dir() else run).picture("certify")
    require_writable_figure("--out", settings.out)
    return settings.out


def _target(settings: CertifySettings) -> Target:
    device = pick_device(settings.device)
    if settings.is_oracle:
        name = settings.oracle or "modes"
        if name not in ORACLES:
            raise InputError(f"--oracle {name}: is not known; choose one of {', '.join(ORACLES)}")
        denoiser = ORACLES[name]()
        return Target(f"oracle {name}", denoiser, (denoiser.distribution.means.shape[1],), {}, None, 1024, 2**14)
    if settings.oracle is not None:
        raise InputError(
            f"--oracle {settings.oracle}: {settings.target} is a model, not an oracle; give one of the two"
        )
    model = as_sampled(load_with_samplers(settings.target, device))
    tables = {key.evaluations: table for key, table in model.fitted.items() if key.sampled == model.sampled()}
    fitted = {"fitted": tables} if tables else {}
    return Target(settings.target, model.sampling_denoiser(), model.spec.model_shape, fitted, model, 256, 2**18)


def _own(target: Target, budgets: Sequence[int], reporter: Reporter) -> dict[int, Tableau] | None:
    """What "auto" is for a model, by evaluations, without fitted tables; None for an oracle."""
    if target.model is None:
        return None
    model = replace(with_choice(Path(target.name), target.model, SECONDS, reporter), fitted={})
    return {n: model.tableau("auto", n) for n in budgets}


def _methods(settings: CertifySettings, target: Target) -> tuple[list[str], _Tables]:
    """The names of the methods to measure, and the fitted tables to measure."""
    wanted = settings.methods or ("auto", *METHODS)
    methods = [name for name in dict.fromkeys(wanted) if name != "fitted"]
    unknown = [name for name in methods if name != "auto" and name not in METHODS]
    if settings.methods and "fitted" in settings.methods and not target.fitted:
        raise InputError(
            f"--methods fitted: {target.name} has no fitted tables; leave it out, or fit some with 'sfumato tune'"
        )
    if unknown:
        raise InputError(f"--methods: '{unknown[0]}' is not known; choose from auto, {', '.join(METHODS)}")
    return methods, {} if settings.methods and "fitted" not in settings.methods else target.fitted


def rank(entries: Sequence[Entry], orders: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """One row per method: auto and fitted, then the others by the geometric mean of their errors, smallest first."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        noisy = entry.method in METHODS and METHODS[entry.method].order is None
        row = rows.setdefault(
            entry.method,
            {"method": entry.method, "order": orders.get(entry.method), "stochastic": noisy, "entries": []},
        )
        cell = {
            "budget": entry.budget,
            "evaluations": entry.evaluations or None,
            "start_logsnr": entry.start,
            "rms": entry.errors and entry.errors.rms,
            "median": entry.errors and entry.errors.median,
            "distance": entry.distance,
            "floor": entry.floor,
            "reason": entry.reason,
            "table": entry.table if entry.method == "auto" else None,
        }
        row["entries"].append({key: value for key, value in cell.items() if value is not None})
    return sorted(rows.values(), key=_rank_key)


def _rank_key(row: Mapping[str, Any]) -> tuple[int, float]:
    if row["method"] in _FIRST:
        return _FIRST.index(row["method"]), 0.0
    errors = [cell["rms"] if "rms" in cell else cell["distance"] for cell in row["entries"] if "reason" not in cell]
    logs = [math.log(max(error, 1e-300)) for error in errors]
    missing = len(row["entries"]) - len(logs)
    return len(_FIRST) + missing, sum(logs) / max(len(logs), 1)


def _write(record: dict[str, Any], picture: Path) -> list[Path]:
    numbers = picture.with_suffix(".json")
    write_text(numbers, strict_json(record, indent=2) + "\n")
    write_with(picture, lambda beside: certificate(record).save(beside, "PNG"))
    return [picture, numbers]
