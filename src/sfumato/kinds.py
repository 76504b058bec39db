"""The kinds of generative models: which class a recipe makes."""

from pathlib import Path

import torch

from sfumato.data import DataSpec
from sfumato.files import expanded
from sfumato.recipes import DiffusionRecipe, HierarchyRecipe, MixtureRecipe, Recipe, TreesRecipe

from . import model_folder
from .generative_model import GenerativeModel
from .hierarchical_model import HierarchicalModel
from .model import Model

MODELS: dict[type[Recipe], type[GenerativeModel]] = {
    DiffusionRecipe: Model,
    HierarchyRecipe: HierarchicalModel,
    MixtureRecipe: Model,
    TreesRecipe: Model,
}


def kind_of(recipe: Recipe) -> type[GenerativeModel]:
    """The class of the model that ``recipe`` makes."""
    return MODELS[type(recipe)]


def fresh(recipe: Recipe, spec: DataSpec) -> GenerativeModel:
    """The untrained model that ``recipe`` makes, for data of this contract.

    Raises:
        InputError: a recipe that cannot be built.
    """
    return kind_of(recipe).fresh(recipe, spec)


def load(folder: str | Path, device: str | torch.device = "cpu") -> GenerativeModel:
    """The model in ``folder``, of any kind, on ``device``, with frozen weights.

    Raises:
        InputError: as ``GenerativeModel.from_pretrained`` does.
    """
    return kind_of(model_folder.read_config(expanded(folder)).recipe).from_pretrained(folder, device)
