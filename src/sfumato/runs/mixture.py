"""The life of a run that fits a mixture of Gaussians: choose its widths by likelihood, fit, write."""

import os
import time
from dataclasses import replace

import torch

from sfumato import recipes
from sfumato.data import Dataset, split
from sfumato.denoisers import GaussianMixture
from sfumato.errors import InputError
from sfumato.model import Model
from sfumato.model_folder import save_weights
from sfumato.numerics.local_mixtures import Bandwidth, gaussians, stacked
from sfumato.numerics.random import derive
from sfumato.reporting import SILENT, Reporter

from . import lifecycle
from .folder import RunFolder
from .settings import DEFAULT, TrainSettings
from .sources import load_data

_MOST = 20_000  # samples that are fitted to, at most


def is_of_mixture(settings: TrainSettings) -> bool:
    """Whether these settings fit a mixture alone. Raises InputError as ``recipes.read`` does."""
    if settings.resume is not None:
        return isinstance(RunFolder(settings.resume).recipe(), recipes.MixtureRecipe)
    return isinstance(recipes.read(settings.recipe or DEFAULT, settings.overrides), recipes.MixtureRecipe)


def train(settings: TrainSettings, reporter: Reporter = SILENT) -> tuple[Model, RunFolder, Dataset, int, float]:
    """Fit the mixture of a new run.

    Returns:
        The model, the run, its data, the number of Gaussians, and the seconds of fitting.

    Raises:
        InputError: settings, data or a folder that cannot be used.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("mixture: is fitted by one process; start the command without torchrun")
    if settings.resume is not None:
        raise InputError(f"{settings.resume}: a mixture is fitted at once; train again with another --out")
    if settings.goal is not None:
        raise InputError("--budget, --steps: a mixture is fitted at once; leave it out")
    assert settings.source is not None  # checked by the settings
    lifecycle.require_free(settings.out)
    recipe = recipes.read(settings.recipe or DEFAULT, settings.overrides)
    dataset = load_data(settings.source, recipe, reporter)
    model = lifecycle.untrained(settings.source, recipe, dataset)
    assert isinstance(model, Model)
    assert isinstance(recipe, recipes.MixtureRecipe)
    began = time.monotonic()
    with reporter.task("fitting a mixture of Gaussians"):
        model, shares = fitted(model, dataset)
    seconds = time.monotonic() - began
    assert isinstance(model.recipe, recipes.MixtureRecipe)
    count = model.recipe.mixture.components
    assert count is not None  # known after the fit
    reporter.info(_said(count, shares))
    with lifecycle.claimed(settings.out, lifecycle.default_name(dataset, recipe)) as folder:
        lifecycle.begin(settings.source, folder, model, None)
        save_weights(model.denoiser.state_dict(), folder.weights, model.config().digest)
    return model, folder, dataset, count, seconds


def fitted(model: Model, dataset: Dataset) -> tuple[Model, dict[Bandwidth, float]]:
    """``model`` by a ``MixtureRecipe``, fitted to samples that are not held out, and the share of each bandwidth.

    The recipe of the result has the number of Gaussians.
    """
    recipe = model.recipe
    assert isinstance(recipe, recipes.MixtureRecipe)
    training, _ = split(len(dataset), recipe.training.held_out, recipe.training.seed)
    generator = torch.Generator().manual_seed(derive(recipe.training.seed, "mixture"))
    order = torch.randperm(len(training), generator=generator)[:_MOST]
    x = dataset.samples(torch.device("cpu")).take(training[order.sort().values]).values.flatten(1).double()
    m = recipe.mixture
    shares = stacked(x, generator, m.neighbours, m.shrinkage, m.width)
    law = GaussianMixture(*gaussians(x, shares, m.most(dataset.spec), generator))
    recipe = recipe.model_copy(update={"mixture": m.model_copy(update={"components": len(law.weights)})})
    denoiser = recipe.build(dataset.spec)
    denoiser.assign(law)
    return replace(model, denoiser=denoiser, made_by=recipe), shares


def _said(count: int, shares: dict[Bandwidth, float]) -> str:
    """The line about what was fitted."""
    neighbours = sorted({bandwidth.neighbours for bandwidth in shares})
    if len(shares) == 1:
        return f"fitted {count:,} Gaussians, as wide as {neighbours[0]} neighbours lie"
    lie = f"{neighbours[0]} to {neighbours[-1]}" if len(neighbours) > 1 else f"{neighbours[0]}"
    return (
        f"fitted {count:,} Gaussians of {len(shares)} widths, as {lie} neighbours lie, in the shares under which "
        "samples left out are likeliest"
    )
