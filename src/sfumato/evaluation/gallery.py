"""Samples, real data, neighbours and trajectories for the report."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfumato.core import Prediction, Process
from sfumato.data import Dataset, split
from sfumato.data.order import permutation
from sfumato.files import write_with
from sfumato.generative_model import GenerativeModel
from sfumato.reporting import Progress
from sfumato.runs.folder import RunFolder
from sfumato.sampling_plan import SamplingPlan

from .neighbours import nearest


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The path of j samples from noise to data, in f frames, in data units.

    Arguments:
        t: the times of the frames (f,).
        logsnr: their log-SNRs (f,).
        x: the states (f, j, *shape), divided by sqrt(alpha^2 + sigma^2), not clipped.
        x_0: the estimates of x_0 (f, j, *shape).
    """

    t: Tensor
    logsnr: Tensor
    x: Tensor
    x_0: Tensor


@dataclass(frozen=True, eq=False)
class Gallery:
    """The content of gallery.npz, in data units.

    Arguments:
        samples: samples of the model (n, *shape).
        real: training data (n, *shape).
        neighbours: the nearest training samples of the first m samples (m, *shape).
        distances: their distances (m,), root mean square per number in model units.
        held_out_distances: the same distances for held-out data (k,).
        trajectory: the path of a few samples; None for a model without a sampler.
    """

    samples: Tensor
    real: Tensor
    neighbours: Tensor
    distances: Tensor
    held_out_distances: Tensor
    trajectory: Trajectory | None


NEIGHBOURS = 16
FRAMES = 24


def make_gallery(
    model: GenerativeModel,
    dataset: Dataset,
    run: RunFolder,
    *,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Gallery:
    """Sample ``model``, and write gallery.npz and gallery.json into a run folder.

    Arguments:
        model: the model.
        dataset: its data.
        run: the folder of the run.
        seed: random seed.
        progress: called with evaluations, done and in all, if the model has a sampler.

    Returns:
        The gallery.
    """
    spec, recipe = model.spec, model.recipe
    count = spec.layout.gallery_samples
    started = time.monotonic()
    plan = model.plan()
    if plan.table is not None and model.denoiser is not None:
        samples, trajectory = _followed(model, plan, model.denoiser.process, count, seed, progress)
        about = {**plan.record, "steps": len(plan.table.times), "evaluations": plan.evaluations}
    else:
        samples, trajectory, about = model.sample(count, seed=seed), None, dict(plan.record)
    seconds = time.monotonic() - started

    train, held_out = split(len(dataset), recipe.training.held_out, recipe.training.seed)
    # In random order: a folder of images is often sorted by class.
    training = dataset.encoded(train[permutation(len(train), seed, "gallery")])
    distances, at = nearest(spec.encode(samples[:NEIGHBOURS]), training)
    baseline, _ = nearest(dataset.encoded(held_out[:200]), training)
    gallery = Gallery(
        samples=samples,
        real=spec.decode(training[:count]),
        neighbours=spec.decode(training[at]),
        distances=distances,
        held_out_distances=baseline,
        trajectory=trajectory,
    )
    arrays = {name: value.numpy() for name, value in vars(gallery).items() if name != "trajectory"}
    if trajectory is not None:
        arrays |= {f"trajectory_{name}": value.numpy() for name, value in vars(trajectory).items()}
    write_with(run.gallery, lambda beside: np.savez_compressed(beside, **arrays))
    run.write_measurement("gallery", {**about, "seed": seed, "seconds": seconds})
    return gallery


def _followed(
    model: GenerativeModel, plan: SamplingPlan, process: Process, count: int, seed: int, progress: Progress
) -> tuple[Tensor, Trajectory]:
    """Samples of a model with a sampler, and the trajectories of the first few."""
    spec, follow, evaluations = model.spec, model.spec.layout.trajectories, plan.evaluations or 1
    frames = set(np.linspace(0, evaluations - 1, min(FRAMES, evaluations)).round().astype(int).tolist())
    followed: list[tuple[float, float, Tensor, Tensor]] = []

    batch = max(256, follow)  # the trajectories are those of the first batch
    report = plan.counting(count, batch, progress)

    def watch(first: int, row: int, t: Tensor, x: Tensor, prediction: Prediction) -> None:
        if report is not None:
            report(first, row, t, x, prediction)
        if first == 0 and row in frames:
            level = process.level(t)
            scale = float(torch.hypot(level.alpha, level.sigma))
            state = spec.decode_unclipped(x[:follow].cpu() / scale)  # clipping would remove the noise
            followed.append((float(t), float(level.logsnr), state, spec.decode(prediction.x_0[:follow].cpu())))

    samples = model.sample(count, seed=seed, batch=batch, watch=watch)
    times, logsnrs, states, estimates = zip(*followed, strict=True)
    trajectory = Trajectory(torch.tensor(times), torch.tensor(logsnrs), torch.stack(states), torch.stack(estimates))
    return samples, trajectory
