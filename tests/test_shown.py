"""What a model looks like where it is printed."""

import pytest
import torch

from sfumato import Model, data, kinds, recipes
from sfumato.core import VP, Cosine, Process
from sfumato.denoisers import ExactDenoiser, GaussianMixture


@pytest.mark.parametrize("preset", ["ddpm", "mhvae"])
def test_a_model_is_shown_in_a_few_lines(preset: str) -> None:
    model = kinds.fresh(recipes.read(preset), data.load("moons").spec)
    lines = repr(model).splitlines()
    assert len(lines) <= 5
    assert max(map(len, lines)) <= 120
    assert f"{preset}, a {model.kind}, trained on moons (10,000 samples)" in lines[0]
    assert lines[1].strip() == "vector data, 2, not bounded"
    assert f"{model.num_parameters:,} parameters on cpu" in lines[2]


def test_one_without_a_recipe_too() -> None:
    mixture = GaussianMixture.gaussian(torch.zeros(2).double(), torch.eye(2).double())
    model = Model(ExactDenoiser(Process(VP(), Cosine()), mixture), data.load("moons").spec)
    assert repr(model).startswith("Model: ExactDenoiser, a diffusion model\n")
    assert "draws" not in repr(model)  # what draws is measured when it is first needed
