"""How far reconstructions of a run can be trusted: methods on a twin of the problem, bands on held-out data."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.allowance import ENDLESS, Allowance
from sfumato.data import Affine
from sfumato.errors import InputError
from sfumato.files import digest, strict_json, write_text, write_with
from sfumato.likelihood.bits import NORMAL, student_widening
from sfumato.model import Model
from sfumato.reconstruction import METHODS, Reconstruction, has_closed_form
from sfumato.reconstruction_certificate import (
    AT,
    DRAWS,
    FEWEST_TO_WIDEN,
    LEVELS,
    HeldOut,
    Run,
    Scores,
    compare,
    held_out,
)
from sfumato.report.charts.certify_reconstruction import certificate_of_reconstruction
from sfumato.reporting import SILENT, Progress, Reporter, Task
from sfumato.restoration import Operator
from sfumato.restoration.twin import MOST_NUMBERS

from .device import pick_device
from .evaluating import own_parts
from .folder import RunFolder
from .loading import load_with_samplers
from .measurement_files import read_operator
from .outputs import require_writable_figure, writable_or_here
from .settings import CertifySettings
from .threads import threads

PROBLEMS = 20  # of the twin, at most; up to twice as many samples are held out for the network
SECONDS = 120.0  # by default
PARTICLES = 64  # of the annealed method, a quarter of what reconstruct has: a network takes a minute for 256
_ON_TWIN = 0.3  # of the time: the network is slower than the twin's denoiser
CENTRES = 100  # samples that the twin is made of
_CLOSE = 1.1  # distances to the exact posterior that are as good as the best
_CHANCE = 0.05  # of the Stein discrepancy, below which draws are not of the model's posterior
_FAR = 1.5  # distances to the exact posterior of draws that are not near it
_SLACK = 0.02  # a share of the values that bands of 90 % may be off by, however many samples there are


def run_reconstruction_certification(
    settings: CertifySettings, reporter: Reporter = SILENT
) -> tuple[dict[str, Any], list[Path]]:
    """Measure as ``settings`` say, and write the figure and the numbers.

    Returns:
        The record, as the .json file holds it, and the files that were written.

    Raises:
        InputError: an operator, a method or a noise that does not fit the model, or a run whose data is gone.
    """
    run = Path(settings.target)
    if settings.out is None:
        picture = RunFolder(writable_or_here(run, reporter) if run.is_dir() else run).picture("certify-reconstruction")
    else:
        picture = settings.out
        require_writable_figure("--out", picture)
    with threads(settings.threads, settings.target):
        record = _certification(settings, reporter)
    numbers = picture.with_suffix(".json")
    write_text(numbers, strict_json(record, indent=2) + "\n")
    write_with(picture, lambda beside: certificate_of_reconstruction(record).save(beside, "PNG"))
    return record, [picture, numbers]


def lines(record: Mapping[str, Any]) -> list[str]:
    """The tables and the verdict of a record."""
    levels = "".join(f"{level:>7.0%}" for level in LEVELS)
    found = [f"{record['target']}: {record['operator']}, noise {record['noise']:g}"]
    if record["twin"]:
        found += [
            "",
            "On problems of a twin whose posterior is known (distance, Stein: of exact draws 1; ±: a standard error)",
            f"{'method':<10}{'problems':>9}{'distance':>15}{'mean off':>9}{'Stein':>7}   covered:{levels}{'at 90%':>9}"
            f"{'seconds':>9}",
        ]
        for row in record["twin"]:
            covered = "".join(f"{share:>7.0%}" for share in row["coverage"])
            found.append(
                f"{row['method']:<10}{row['problems']:>9}{row['distance']:>8.2f} ± {row['distance_uncertainty']:<4.2f}"
                f"{row['off']:>9.2f}{_ratio(row['stein']):>7}{' ' * 11}{covered}{'±':>5} {row['uncertainty']:<3.0%}"
                f"{row['seconds']:>9.2f}"
            )
        fewer = [row["method"] for row in record["twin"] if row["problems"] < record["problems"]]
        if fewer:
            found.append(
                f"The time ended before {record['problems']} problems for {', '.join(fewer)}: --budget gives more"
            )
    held = record["held_out"]
    covered = "".join(f"{share:>7.0%}" for share in held["scores"]["coverage"])
    found += [
        "",
        f"With the model, on {held['problems']} held-out samples, {held['scores']['method']}",
        f"error of the mean {held['scores']['error']:.4g}   covered:{levels}{'at 90%':>9}{'seconds':>9}",
        f"{' ' * (30 + len(format(held['scores']['error'], '.4g')))}{covered}{'±':>5} "
        f"{held['scores']['uncertainty']:<3.0%}{held['scores']['seconds']:>9.2f}",
        _of_stein(held["scores"]["stein"]),
        "",
        *record["verdict"],
    ]
    return found


def _ratio(stein: Mapping[str, float] | None) -> str:
    return "" if stein is None else f"{stein['ratio']:.2f}"


def _of_stein(stein: Mapping[str, float] | None) -> str:
    if stein is None:
        return "no Stein discrepancy: the operator is not linear, or the noise finer than the model's finest level"
    return (
        f"Stein discrepancy of draws from the model's posterior {_ratio(stein)}, of exact draws 1.00 ± "
        f"{stein['scatter']:.2f}: p = {stein['p_value']:.3f}"
    )


def _certification(settings: CertifySettings, reporter: Reporter) -> dict[str, Any]:
    assert settings.operator is not None
    assert settings.noise is not None
    model = load_with_samplers(settings.target, pick_device(settings.device))
    operator = read_operator(settings.operator, model.spec)
    parts = own_parts(RunFolder(Path(settings.target)), model, settings.seed)
    if parts is None:
        raise InputError(f"{settings.target}: the data of this run is gone or has changed; restore it")
    problems = settings.samples or PROBLEMS
    allowance = _allowance(settings)
    runs = _runs(settings, operator, has_closed_form(model))
    twin: list[Scores] = []
    if operator.linear and parts[0][0].numel() <= MOST_NUMBERS and isinstance(model.spec.transform, Affine):
        with reporter.task("twin") as task:
            early = allowance.share(_ON_TWIN)
            centres, count = parts[0][:CENTRES], _counter(task, early)
            twin = compare(model, centres, operator, settings.noise, runs, problems, settings.seed, count, early)
    else:
        reporter.info(f"no twin: it is made for linear operators and samples of at most {MOST_NUMBERS} numbers")
    chosen = best(twin) if twin else next(iter(runs))
    with reporter.task("held-out samples") as task:
        samples = parts[1][: 2 * problems]
        count = _counter(task, allowance)
        held = held_out(model, samples, operator, settings.noise, chosen, runs[chosen], settings.seed, count, allowance)
    return {
        "target": settings.target,
        "weights": digest(RunFolder(Path(settings.target)).weights),
        "operator": settings.operator,
        "noise": settings.noise,
        "seed": settings.seed,
        "budget": settings.budget,
        "problems": problems,
        "levels": list(LEVELS),
        "twin": [_row(row) for row in twin],
        "held_out": asdict(held) | {"scores": _known(_row(held.scores))},
        "verdict": verdict(twin, held),
    }


def _allowance(settings: CertifySettings) -> Allowance:
    """Numbers that are asked for are measured, unless a time is given too."""
    if settings.budget is None and settings.samples is not None:
        return ENDLESS
    return Allowance.of(settings.budget or SECONDS)


def _counter(task: Task, allowance: Allowance) -> Progress:
    """Progress by numbers, which ends with the allowance at the latest."""
    began = time.monotonic()

    def count(done: int, total: int) -> None:
        pace = (time.monotonic() - began) / done
        task.update(done / total, f"{done} of {total}", min(pace * (total - done), allowance.left()))

    return count


def best(twin: list[Scores]) -> str:
    """The method nearest to the exact posterior; of those as near, the fastest."""
    least = min(row.distance for row in twin)
    return min((row for row in twin if row.distance <= _CLOSE * least), key=lambda row: row.seconds).method


def verdict(twin: list[Scores], held: HeldOut) -> list[str]:
    """What to do, in words."""
    found = []
    if twin:
        row = next(row for row in twin if row.method == held.scores.method)
        found.append(
            f"{row.method}: draws are {row.distance:.2f} times as far from the exact posterior as exact draws are, and "
            f"bands of 90 % cover {row.coverage[AT]:.0%} of true values, on {row.problems} problems of the twin."
        )
    return [*found, _bands(held), *_draws(twin, held)]


def _draws(twin: list[Scores], held: HeldOut) -> list[str]:
    """Whether the method or the model is at fault, as far as a score tells."""
    method, stein = held.scores.method, held.scores.stein
    if stein is None:
        return []
    own = next((row for row in twin if row.method == method), None)
    if stein.discrepancy.p_value >= _CHANCE:
        text = (
            "By the model's own score, its draws are as exact ones would be, but a score does not tell the weights of "
        )
        if own is not None and own.distance > _FAR:
            return [f"{text}modes far apart, and the distance on the twin says that {method} errs."]
        return [f"{text}modes far apart. Otherwise, what bands miss is the model's fault."]
    text = f"By the model's own score, draws of {method} are not those of the model's posterior"
    if own is None or own.stein is None:
        return [f"{text}."]
    if own.stein.discrepancy.p_value >= _CHANCE:
        return [f"{text}, and on the twin they are: the score at fine levels and that at coarse ones do not agree."]
    few = f": {PARTICLES} particles are few, and 'sfumato reconstruct' takes more" if method == "annealed" else ""
    return [f"{text}, and on the twin not those of its posterior either{few}."]


def _bands(held: HeldOut) -> str:
    """Whether bands cover what they promise: a share further off than chance leaves 1 of 20 certificates is wrong."""
    share, unsure = held.scores.coverage[AT], held.scores.uncertainty
    chance = max(NORMAL * student_widening(float(held.problems - 1)) * unsure, _SLACK)
    text = f"With the model, bands of 90 % cover {share:.0%} ± {unsure:.0%} of held-out values"
    if abs(share - 0.9) <= chance:
        return f"{text}: as they should, as far as {held.problems} samples can tell, which is to {chance:.0%}."
    text += f": too {'narrow' if share < 0.9 else 'wide'}."
    if math.isnan(held.widening):
        return (
            f"{text} {held.problems} samples are too few to choose a factor for them and to check it: it takes "
            f"{2 * FEWEST_TO_WIDEN}. Give --samples {FEWEST_TO_WIDEN}, or more --budget."
        )
    if math.isinf(held.widening):
        return f"{text} No factor widens them enough, for some have no width at all."
    checked = held.problems // 2
    return (
        f"{text} Both halves times {held.widening:.2f} cover {held.widened:.0%} on {checked} samples that did not "
        "choose the factor."
    )


def _runs(settings: CertifySettings, operator: Operator, closed: bool) -> dict[str, Run]:
    known = [name for name in METHODS if name != "auto" and (closed or name != "exact")] if operator.linear else ["dps"]
    wanted = settings.methods or tuple(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"--methods: '{unknown[0]}' is none for this operator; choose from {', '.join(known)}")
    assert settings.noise is not None
    return {name: partial(_run, operator, settings.noise, name) for name in wanted}


def _run(operator: Operator, noise: float, method: str, model: Model, y: Tensor, seed: int) -> Reconstruction:
    particles = PARTICLES if method == "annealed" else None
    return model.reconstruct(y, operator, noise=noise, draws=DRAWS, method=method, particles=particles, seed=seed)


def _row(scores: Scores) -> dict[str, Any]:
    stein = scores.stein
    return asdict(scores) | {"stein": None if stein is None else asdict(stein.discrepancy) | {"rho": stein.rho}}


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known of a network's posterior."""
    return {key: value for key, value in row.items() if key not in ("distance", "off")}
