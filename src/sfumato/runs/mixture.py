"""The life of a run that fits a mixture of Gaussians: choose its widths by likelihood, fit, write."""

import os
import time
from dataclasses import asdict, replace

import torch

from sfumato import recipes
from sfumato.data import Dataset, split
from sfumato.denoisers import MixtureDenoiser
from sfumato.errors import InputError
from sfumato.model import Model
from sfumato.model_folder import save_weights
from sfumato.numerics import local_mixtures
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
        model = fitted(model, dataset)
    seconds = time.monotonic() - began
    assert isinstance(model.recipe, recipes.MixtureRecipe)
    m = model.recipe.mixture
    assert m.components is not None
    given = recipe.mixture
    chosen = None in (given.neighbours, given.shrinkage, given.width)
    reporter.info(
        f"fitted {m.components:,} Gaussians, each as wide as {m.neighbours} neighbours lie (width {m.width:g}, "
        f"shrinkage {m.shrinkage:g}{', chosen by the likelihood of samples left out' if chosen else ''})"
    )
    with lifecycle.claimed(settings.out, lifecycle.default_name(dataset, recipe)) as folder:
        lifecycle.begin(settings.source, folder, model, None)
        save_weights(model.denoiser.state_dict(), folder.weights, model.config().digest)
    return model, folder, dataset, m.components, seconds


def fitted(model: Model, dataset: Dataset) -> Model:
    """``model`` by a ``MixtureRecipe``, fitted to samples that are not held out; its recipe has the chosen widths."""
    recipe, denoiser = model.recipe, model.denoiser
    assert isinstance(recipe, recipes.MixtureRecipe)
    assert isinstance(denoiser, MixtureDenoiser)
    training, _ = split(len(dataset), recipe.training.held_out, recipe.training.seed)
    generator = torch.Generator().manual_seed(derive(recipe.training.seed, "mixture"))
    order = torch.randperm(len(training), generator=generator)[:_MOST]
    x = dataset.samples(torch.device("cpu")).take(training[order.sort().values]).values.flatten(1).double()
    m = recipe.mixture
    chosen = local_mixtures.likeliest(x, generator, m.neighbours, m.shrinkage, m.width)
    centres = torch.randperm(len(x), generator=generator)[: m.components].sort().values
    denoiser.assign(x[centres], local_mixtures.covariances(x, centres, chosen))
    section = m.model_copy(update=asdict(chosen))
    return replace(model, made_by=recipe.model_copy(update={"mixture": section}))
