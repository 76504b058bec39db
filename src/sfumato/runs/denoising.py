"""Denoise and interpolate: from files to one folder with everything."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sfumato.report.charts.frames import frames_figure
from sfumato.report.charts.reconstruction import Shown, reconstruction_figure
from sfumato.reporting import SILENT, Reporter

from .device import pick_device
from .loading import load_with_samplers
from .measurement_files import read_sample, read_samples
from .result_folder import new_folder, stated, write_results
from .settings import DenoiseSettings, InterpolateSettings
from .threads import threads


def run_denoise(settings: DenoiseSettings, reporter: Reporter = SILENT) -> tuple[dict[str, Any], list[Path]]:
    """Denoise as ``settings`` say, and write the folder.

    Returns:
        The record, as result.json holds it, and the files that were written.

    Raises:
        InputError: a file that cannot be read or does not fit the model, or a folder that exists.
    """
    folder = new_folder(settings.out, settings.run, f"denoise-{settings.images[0].stem}")
    with threads(settings.threads, settings.run):
        model = load_with_samplers(settings.run, pick_device(settings.device))
        parts = [read_samples("IMAGES", path, model.spec) for path in settings.images]
        noisy = torch.cat(parts)
        with reporter.task("denoising") as task:
            found = model.denoise(
                noisy, settings.sigma, draws=settings.draws, steps=settings.steps, seed=settings.seed,
                batch=settings.batch, progress=task.count,
            )  # fmt: skip
    names = [path.name for path, part in zip(settings.images, parts, strict=True) for _ in part]
    samples = [{"file": name, "sigma": sigma} for name, sigma in zip(names, found.sigma.tolist(), strict=True)]
    record = {**stated(settings), "estimated": settings.sigma is None, "samples": samples}
    mean, draws, given = found.mean.numpy(), found.draws.numpy(), noisy.to(found.mean.dtype).numpy()
    several = settings.draws > 1
    std = draws.std(1, ddof=1) if several else mean * 0
    low, high = (mean - std, mean + std)
    title = f"{model.name}: sigma {found.sigma.min():.3g}" + (
        f" to {found.sigma.max():.3g}" if settings.sigma is None and len(noisy) > 1 else ""
    )
    figure = reconstruction_figure(Shown(draws, mean, std, low, high, given), model.spec, title)
    arrays = {"mean": mean, "draws": draws, "noisy": given, "sigma": found.sigma.numpy()}
    return record, write_results(folder, "denoised", arrays, record, figure.save)


def denoise_lines(record: Mapping[str, Any]) -> list[str]:
    """The result in words."""
    how = "estimated noise" if record["estimated"] else "noise"
    rows = record["samples"]
    text = [f"{row['file']}: {how} {row['sigma']:.3g} in data units" for row in rows[:10]]
    return text + ([f"and {len(rows) - 10} more"] if len(rows) > 10 else [])


def run_interpolate(settings: InterpolateSettings, reporter: Reporter = SILENT) -> tuple[dict[str, Any], list[Path]]:
    """Interpolate as ``settings`` say, and write the folder. Returns and raises as ``run_denoise``."""
    folder = new_folder(settings.out, settings.run, f"interpolate-{settings.a.stem}-{settings.b.stem}")
    with threads(settings.threads, settings.run):
        model = load_with_samplers(settings.run, pick_device(settings.device))
        a, b = read_sample("A", settings.a, model.spec), read_sample("B", settings.b, model.spec)
        with reporter.task("interpolating"):
            frames = model.interpolate(
                a, b, at=settings.at, frames=settings.frames, mode=settings.mode, steps=settings.steps,
                seed=settings.seed,
            )  # fmt: skip
    ends = torch.stack([(frames[0] - a).double().pow(2).mean(), (frames[-1] - b).double().pow(2).mean()]).sqrt()
    record = {**stated(settings), "end_errors": ends.tolist()}
    shown = frames.numpy()
    title = f"{model.name}: {settings.mode}, mixed at t = {settings.at:g}"
    figure = frames_figure(shown, torch.stack([a, b]).numpy(), model.spec, title)
    return record, write_results(folder, "frames", {"frames": shown}, record, figure.save)


def interpolate_lines(record: Mapping[str, Any]) -> list[str]:
    """The result in words."""
    first, last = record["end_errors"]
    given = record["settings"]
    return [
        f"{given['frames']} frames, {given['mode']}, mixed at t = {given['at']:g}; the first differs from A by "
        f"{first:.3g}, the last from B by {last:.3g} (root mean square)"
    ]
