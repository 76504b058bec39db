"""The pictures' raw material: samples, real data, neighbours, and the path of a few samples from noise to data."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato.core import Prediction, Process
from sfumato.data import Dataset, split
from sfumato.data.order import permutation
from sfumato.files import write_text, write_with
from sfumato.generative_model import GenerativeModel
from sfumato.sampling import Tableau

from .neighbours import nearest


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Of j samples the states ``x`` and the ``x_0``-hat (f, j, *shape) in f frames from noise to data, in data units.

    States are divided by sqrt(alpha^2 + sigma^2), and not clipped. ``t`` and ``logsnr`` (f,) say where the frames are.
    """

    t: Tensor
    logsnr: Tensor
    x: Tensor
    x_0: Tensor


@dataclass(frozen=True, eq=False)
class Gallery:
    """What gallery.npz holds, in data units, leading axis samples.

    ``samples`` (n, *shape) beside ``real`` training data; ``neighbours`` (m, *shape), the nearest training sample of
    each of the first m samples, at ``distances`` (m,), root mean square a value in model units, beside what held-out
    data has; and the ``trajectory`` of a few samples, for a model that starts from noise.
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
    run: Path,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Gallery:
    """Sample ``model`` and write gallery.npz and gallery.json into ``run``.

    ``progress`` is called with (evaluations done, evaluations in all), where samples take evaluations.
    """
    spec, recipe = model.spec, model.recipe
    count = spec.layout.gallery_samples
    started = time.monotonic()
    plan = model.plan()
    if plan.table is not None and model.denoiser is not None:
        samples, trajectory = _followed(model, plan.table, model.denoiser.process, count, seed, progress)
        about = {**plan.record, "steps": len(plan.table.times), "evaluations": plan.evaluations}
    else:
        samples, trajectory, about = model.sample(count, seed=seed), None, dict(plan.record)
    seconds = time.monotonic() - started

    train, held_out = split(len(dataset), recipe.training.held_out, recipe.training.seed)
    # In random order: a folder comes sorted by class, and the first samples would show one of them.
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
    write_with(run / "gallery.npz", lambda beside: np.savez_compressed(beside, **arrays))
    write_text(run / "gallery.json", json.dumps({**about, "seed": seed, "seconds": seconds}, indent=2) + "\n")
    return gallery


def _followed(
    model: GenerativeModel,
    tableau: Tableau,
    process: Process,
    count: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> tuple[Tensor, Trajectory]:
    """Samples drawn by ``tableau``, and the trajectories of the first few."""
    spec, follow = model.spec, model.spec.layout.trajectories
    frames = set(np.linspace(0, tableau.evaluations - 1, min(FRAMES, tableau.evaluations)).round().astype(int).tolist())
    followed: list[tuple[float, float, Tensor, Tensor]] = []

    batch = max(256, follow)  # the trajectories are those of the first batch
    total = tableau.evaluations * -(-count // batch)

    def watch(first: int, row: int, t: Tensor, x: Tensor, prediction: Prediction) -> None:
        progress(tableau.evaluations * (first // batch) + row + 1, total)
        if first == 0 and row in frames:
            level = process.level(t)
            scale = float(torch.hypot(level.alpha, level.sigma))
            state = spec.decode_unclipped(x[:follow].cpu() / scale)  # clipping would remove the noise
            followed.append((float(t), float(level.logsnr), state, spec.decode(prediction.x_0[:follow].cpu())))

    samples = model.sample(count, seed=seed, batch=batch, watch=watch)
    times, logsnrs, states, estimates = zip(*followed, strict=True)
    trajectory = Trajectory(torch.tensor(times), torch.tensor(logsnrs), torch.stack(states), torch.stack(estimates))
    return samples, trajectory
