"""The base of a recipe: its numbers come from the data, and some recipes cannot use one."""

import pytest
import torch

from sfumato import data, recipes
from sfumato.denoisers import MixtureDenoiser, NetworkDenoiser
from sfumato.errors import InputError
from sfumato.recipes import DiffusionRecipe
from sfumato.recipes.base import MixtureBase, NoBase


@pytest.fixture(scope="module")
def digits() -> data.DataSpec:
    return data.load("digits", data.DataOptions()).spec


def resolved(spec: data.DataSpec, *settings: str) -> NoBase | MixtureBase:
    recipe = recipes.read("flow", settings).resolved(spec)
    assert isinstance(recipe, DiffusionRecipe)
    assert isinstance(recipe.base, NoBase | MixtureBase)
    return recipe.base


def test_the_numbers_come_from_those_of_the_data(digits: data.DataSpec) -> None:
    assert digits.count == 1797
    assert resolved(digits) == MixtureBase(components=17, directions=64)  # a component per 100 samples
    assert resolved(digits, "base=mixture", "base.directions=8") == MixtureBase(components=17, directions=8)
    few = data.load("digits", data.DataOptions(limit=90)).spec
    assert resolved(few) == MixtureBase(components=1, directions=9)  # a direction per 10 samples
    points = data.load("moons", data.DataOptions(count=8000)).spec
    assert resolved(points) == MixtureBase(components=50, directions=2)


@pytest.mark.parametrize("settings", [["objective.pairing=optimal-transport"], ["training.augment=0.1"], ["base=none"]])
def test_pairs_and_moved_images_have_none(digits: data.DataSpec, settings: list[str]) -> None:
    assert resolved(digits, *settings) == NoBase()
    denoiser = recipes.read("flow", settings).build(digits)
    assert isinstance(denoiser, NetworkDenoiser)
    assert denoiser.base is None


def test_the_mixture_knows_the_classes_of_a_conditional_model(digits: data.DataSpec) -> None:
    for settings, rows in ([], 11), (["conditioning=none"], 1):
        base = recipes.read("flow", settings).build(digits).base
        assert isinstance(base, MixtureDenoiser)
        assert base.log_weights.shape == (rows, 17)


@pytest.mark.parametrize("preset", ["ddpm", "edm", "vdm", "improved-ddpm", "ve-sde"])
def test_recipes_of_papers_have_none_and_can_have_one(digits: data.DataSpec, preset: str) -> None:
    without = recipes.read(preset, ["network.size=0"]).build(digits)
    assert without.base is None
    small = ["network.size=0", "base=mixture", "base.components=2", "base.directions=3", "training.augment=0"]
    denoiser = recipes.read(preset, [*small, "conditioning=none"]).build(digits)
    assert denoiser.base is not None
    x_t, t = torch.randn(2, *digits.model_shape), torch.tensor([0.3, 0.9], dtype=torch.float64)
    assert denoiser(x_t, t).x_0.isfinite().all()


def test_too_many_directions_are_refused(digits: data.DataSpec) -> None:
    with pytest.raises(InputError, match=r"base.directions: 65 are more than the 64 numbers of a sample"):
        recipes.read("flow", ["base=mixture", "base.directions=65"]).build(digits)
