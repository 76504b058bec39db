"""Reconstruct and inpaint: from files to one folder with everything."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.errors import InputError
from sfumato.evidence import Explained, explained
from sfumato.model import Model
from sfumato.reconstruction import Reconstruction
from sfumato.report.charts.reconstruction import Shown, reconstruction_figure
from sfumato.reporting import SILENT, Reporter
from sfumato.restoration import Decibels, Operator, Photons

from .device import pick_device
from .loading import load_with_samplers
from .measurement_files import read_calibration, read_mask, read_noise_of, read_numbers, read_operator, read_sample
from .result_folder import new_folder, stated, write_results
from .settings import InpaintSettings, ReconstructSettings
from .threads import threads

COVERAGE = 0.9
_FINE = 0.025  # noise of known values, of the two model units around 0: a few times the finest level of usual models
_UNLIKELY = 0.01  # a p-value below this is pointed out
_FEW = 0.2  # an effective size below this is pointed out


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be reconstructed.

    Arguments:
        model: the prior.
        y: readings (M, *readings).
        operator: what they are of a sample.
        noise: what is known of it, as ``model.reconstruct`` takes it.
        given: samples (M, *shape) to show beside the result, nan where nothing is known; or None.
    """

    model: Model
    y: Tensor
    operator: Operator | Tensor
    noise: float | Tensor | Decibels | Photons | str
    given: np.ndarray | None


def run_reconstruction(
    settings: ReconstructSettings | InpaintSettings, reporter: Reporter = SILENT
) -> tuple[dict[str, Any], list[Path]]:
    """Reconstruct as ``settings`` say, and write the folder.

    Returns:
        The record, as result.json holds it, and the files that were written.

    Raises:
        InputError: a file that cannot be read or does not fit the model, or a folder that exists.
    """
    source = settings.image if isinstance(settings, InpaintSettings) else settings.measurements
    folder = new_folder(settings.out, settings.run, f"{settings.verb}-{source.stem}")
    with threads(settings.threads, settings.run):
        problem = _inpainting(settings) if isinstance(settings, InpaintSettings) else _measured(settings)
        with reporter.task("reconstructing") as task:
            found = problem.model.reconstruct(
                problem.y, problem.operator, noise=problem.noise, draws=settings.draws, method=settings.method,
                steps=settings.steps, particles=settings.particles, seed=settings.seed, batch=settings.batch,
                progress=task.count,
            )  # fmt: skip
        against = _explained(settings, problem, found, reporter)
    record = _record(settings, problem, found, against)
    _warn(record, reporter)
    return record, _write(folder, record, problem, found)


def _explained(
    settings: ReconstructSettings | InpaintSettings, problem: Problem, found: Reconstruction, reporter: Reporter
) -> Explained | None:
    """The evidence against simulations, if it is asked for."""
    if isinstance(settings, InpaintSettings) or not settings.simulations:
        return None
    if not (found.noise == found.noise[:1]).all():
        raise InputError("--simulations: measurements whose noise differs cannot be simulated together; leave it out")
    with reporter.task("simulating measurements") as task:
        return explained(
            problem.model, problem.y, problem.operator, found.noise[0], simulations=settings.simulations,
            seed=settings.seed, batch=settings.batch, progress=task.count,
        )  # fmt: skip


def lines(record: Mapping[str, Any]) -> list[str]:
    """The result in words."""
    text = [f"{record['method']}: {record['evaluations']:,} evaluations per draw"]
    for i, each in enumerate(record["measurements"][:10]):
        evidence = "" if each["log_evidence"] is None else f", log p(y) {each['log_evidence']:.2f} nats"
        if each["evidence_p_value"] is not None:
            evidence += f" (p = {each['evidence_p_value']:.2g})"
        text.append(
            f"measurement {i + 1}: residual {each['residual']:.2f} of the noise {each['noise']:.3g}, "
            f"p = {each['p_value']:.2g}{evidence}, "
            f"mean deviation {each['std']:.3g}"
        )
    more = len(record["measurements"]) - 10
    return text + ([f"and {more} more"] if more > 0 else [])


def _measured(settings: ReconstructSettings) -> Problem:
    model = load_with_samplers(settings.run, pick_device(settings.device))
    y = read_numbers("--measurements", settings.measurements)
    if settings.calibrate_operator is not None:
        found = read_calibration(settings.calibrate_operator, model.spec)
        return Problem(model, found.whitened(y), found.operator, 1.0, None)
    assert settings.operator is not None
    assert settings.noise is not None
    operator = read_operator(settings.operator, model.spec)
    shape = operator.output_shape
    count = y.numel() // int(np.prod(shape))
    if count * int(np.prod(shape)) != y.numel() or y.shape[-1] not in (shape[-1], int(np.prod(shape))):
        raise InputError(
            f"--measurements {settings.measurements}: shape {tuple(y.shape)} does not fit the operator; give one row "
            f"of shape {shape} per measurement"
        )
    readings = y.reshape(count, *shape)
    return Problem(model, readings, operator, read_noise_of(settings.noise, readings), None)


def _inpainting(settings: InpaintSettings) -> Problem:
    model = load_with_samplers(settings.run, pick_device(settings.device))
    spec = model.spec
    sample, hole = read_sample("IMAGE", settings.image, spec), read_mask("--mask", settings.mask, spec)
    noise = settings.noise
    if noise is None:
        ends = torch.stack([spec.decode_unclipped(torch.full(spec.model_shape, end)) for end in (-1.0, 1.0)])
        noise = _FINE * float((ends[1] - ends[0]).mean())
    given = torch.where(hole, float("nan"), sample)[None].numpy()
    return Problem(model, sample[~hole][None], ~hole, float(noise), given)


def _record(
    settings: ReconstructSettings | InpaintSettings, problem: Problem, found: Reconstruction, against: Explained | None
) -> dict[str, Any]:
    unlikely = [None] * len(found.mean) if against is None else against.p_value.tolist()
    rows = [
        {
            "log_evidence": None if np.isnan(evidence) else evidence,
            "residual": residual,
            "p_value": p_value,
            "evidence_p_value": against_all,
            "last_size": None if np.isnan(size) else size,
            "std": std,
            "noise": noise,
        }
        for evidence, residual, p_value, against_all, size, std, noise in zip(
            found.log_evidence.tolist(),
            found.residual.tolist(),
            found.p_value.tolist(),
            unlikely,
            found.last_size.tolist(),
            found.std.flatten(1).mean(1).tolist(),
            found.noise.flatten(1).pow(2).mean(1).sqrt().tolist(),
            strict=True,
        )
    ]
    return {
        **stated(settings, **({} if isinstance(settings, ReconstructSettings) else {"noise": problem.noise})),
        "method": found.method,
        "evaluations": found.evaluations,
        "coverage": COVERAGE,
        "measurements": rows,
    }


def _warn(record: Mapping[str, Any], reporter: Reporter) -> None:
    rows = record["measurements"]
    strange = [str(i + 1) for i, row in enumerate(rows) if row["p_value"] < _UNLIKELY]
    if strange:
        reporter.warn(
            f"the model does not explain measurement {', '.join(strange[:8])} within the noise: the sample is unlike "
            "the training data, or the operator or the noise is not as given"
        )
    unlike = [str(i + 1) for i, row in enumerate(rows) if (row["evidence_p_value"] or 1.0) <= _UNLIKELY]
    if unlike:
        reporter.warn(
            f"measurement {', '.join(unlike[:8])} is less likely than nearly all that the model simulates: the sample "
            "is unlike the training data, or the operator or the noise is not as given"
        )
    poor = [row for row in rows if row["last_size"] is not None and row["last_size"] < _FEW]
    if poor:
        reporter.warn(
            f"{len(poor)} of {len(rows)} results rest on few particles: the noise is finer than the model's finest "
            "level; give more --particles, or a larger --noise"
        )


def _write(folder: Path, record: Mapping[str, Any], problem: Problem, found: Reconstruction) -> list[Path]:
    low, high = found.band(COVERAGE)
    draws, mean, std = (values.numpy() for values in (found.draws, found.mean, found.std))
    shown = Shown(draws, mean, std, low.numpy(), high.numpy(), problem.given)
    title = f"{problem.model.name}: {len(found.mean)} measurement{'s' * (len(found.mean) > 1)}, {found.method}"
    arrays = {"draws": shown.draws, "mean": shown.mean, "std": shown.std, "low": shown.low, "high": shown.high}
    figure = reconstruction_figure(shown, problem.model.spec, title)
    return write_results(folder, "reconstruction", arrays, record, figure.save)
