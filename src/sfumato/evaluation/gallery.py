"""Samples, real data, neighbours and trajectories for the report."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfumato.allowance import ENDLESS, Allowance
from sfumato.data import Dataset, split
from sfumato.data.order import permutation
from sfumato.files import write_with
from sfumato.generative_model import GenerativeModel
from sfumato.reporting import Progress
from sfumato.runs.folder import RunFolder

from .neighbours import nearest
from .progressive import Trajectory, draw
from .quality import Sets, clipped_coverage


@dataclass(frozen=True, eq=False)
class Gallery:
    """The content of gallery.npz, in data units.

    Arguments:
        samples: samples of the model (n, *shape).
        real: training data (r, *shape).
        neighbours: the nearest training samples of the first m samples (m, *shape).
        distances: the distances of the samples to their nearest training samples (n,), root mean square per number in
            model units.
        held_out_distances: the same distances for held-out data (k,).
        trajectory: the path of a few samples; None for a model without a sampler.
    """

    samples: Tensor
    real: Tensor
    neighbours: Tensor
    distances: Tensor
    held_out_distances: Tensor
    trajectory: Trajectory | None


NEIGHBOURS = 16  # that are shown
JUDGED = 256  # samples whose distances to the data are judged, at least if there is time
EXTRA = 20.0  # seconds for those that are not shown
DRAWING = 0.7  # of an allowance; the rest is for neighbours
LEAST = 4  # samples, and real ones, that a judgement needs


def gallery_evaluations(model: GenerativeModel) -> int:
    """Evaluations that all samples of a gallery take, one sample at a time."""
    return max(model.spec.layout.gallery_samples, JUDGED) * (model.plan().evaluations or 1)


def make_gallery(
    model: GenerativeModel,
    dataset: Dataset,
    run: RunFolder,
    *,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
    allowance: Allowance = ENDLESS,
) -> Gallery:
    """Sample ``model``, and write gallery.npz and gallery.json into a run folder.

    Arguments:
        model: the model.
        dataset: its data.
        run: the folder of the run.
        seed: random seed.
        progress: called with evaluations, done and in all.
        allowance: fewer samples, by fewer evaluations, are drawn if it is short.

    Returns:
        The gallery.
    """
    spec, recipe = model.spec, model.recipe
    shown = spec.layout.gallery_samples
    started = time.monotonic()
    drawn = draw(model, shown, max(shown, JUDGED), EXTRA, seed, progress, allowance.share(DRAWING))
    seconds = time.monotonic() - started

    train, held_out = split(len(dataset), recipe.training.held_out, recipe.training.seed)
    # In random order: a folder of images is often sorted by class.
    training = dataset.encoded(dataset.fitting(train[permutation(len(train), seed, "gallery")]))
    others = dataset.encoded(held_out[permutation(len(held_out), seed, "judged")[: max(shown, JUDGED)]])
    samples = spec.encode(drawn.samples)
    distances, at = _as_many_as_fit(samples, training, allowance)
    baseline, _ = _as_many_as_fit(others, training, allowance)
    gallery = Gallery(
        samples=drawn.samples,
        real=spec.decode(training[:shown]),
        neighbours=spec.decode(training[at[:NEIGHBOURS]]),
        distances=distances,
        held_out_distances=baseline,
        trajectory=drawn.trajectory,
    )
    arrays = {name: value.numpy() for name, value in vars(gallery).items() if name != "trajectory"}
    if drawn.trajectory is not None:
        arrays |= {f"trajectory_{name}": value.numpy() for name, value in vars(drawn.trajectory).items()}
    write_with(run.gallery, lambda beside: np.savez_compressed(beside, **arrays))
    judged = {"good_samples": _good_samples(samples, others), "real_samples": len(others)}
    run.write_measurement("gallery", {**drawn.record, "seed": seed, "seconds": seconds, **judged})
    return gallery


def _as_many_as_fit(queries: Tensor, references: Tensor, allowance: Allowance) -> tuple[Tensor, Tensor]:
    """``nearest`` for the first queries; for all of them if half of what is left of the allowance suffices."""
    first = queries[:NEIGHBOURS]
    started = allowance.clock()
    distances, at = nearest(first, references)
    each = (allowance.clock() - started) / len(first)
    rest = queries[NEIGHBOURS:]
    if each and allowance.limited:
        rest = rest[: int(allowance.left() / 2 / each)]
    if not len(rest):
        return distances, at
    more, there = nearest(rest, references)
    return torch.cat([distances, more]), torch.cat([at, there])


def _good_samples(samples: Tensor, real: Tensor) -> float | None:
    """The share of samples that are as good as real ones: of two clipped coverages, the lower one; at most 1.

    Noise does not cover real data. Blurred samples lie among real ones and cover them, but real ones do not cover
    samples, which are closer to each other. None for too few to say.
    """
    if min(len(samples), len(real)) < LEAST:
        return None
    return min(clipped_coverage(Sets(samples, real)), clipped_coverage(Sets(real, samples)), 1.0)
