"""The choice of a sampler at the end of training: kept beside the weights, and only where there is time."""

from pathlib import Path

import pytest
import torch

from sfumato import Model, data, recipes
from sfumato.hierarchical_model import HierarchicalModel
from sfumato.runs import choosing
from sfumato.runs.choosing import choose_sampler
from sfumato.sampling import choice


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in a folder, and few methods to choose from."""
    monkeypatch.setattr(choice, "CANDIDATES", {name: choice.CANDIDATES[name] for name in ("ddim", "unipc2", "adams2")})
    monkeypatch.setattr(choice, "FINE", 30)
    monkeypatch.setattr(choosing, "BUDGETS", (5, 8))
    monkeypatch.setattr(choice, "STARTS", 32)
    recipe = recipes.read("ddpm", ["network.width=8", "sampling.steps=7"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model.fresh(recipe, data.load("moons", data.DataOptions(count=60)).spec)
        for p in model.module.parameters():
            p.data.add_(0.05 * torch.randn(p.shape))
    model.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def test_the_choice_is_kept_beside_the_weights(saved: Path) -> None:
    model = Model.from_pretrained(saved)
    chosen = choose_sampler(saved, model, 600.0)
    assert isinstance(chosen, Model)
    # The model's own number of evaluations too.
    assert set(chosen.chosen) == {5, 7, 8}
    again = Model.from_pretrained(saved)
    assert again.chosen == chosen.chosen
    assert choose_sampler(saved, again, 600.0) is again
    assert again.plan().text == f"by auto: {chosen.chosen[7]}"


def test_without_time_a_choice_or_a_folder_to_write_to_nothing_is_done(saved: Path, tmp_path: Path) -> None:
    model = Model.from_pretrained(saved)
    assert choose_sampler(saved, model, 0.1) is model
    (tmp_path / "file").touch()
    assert choose_sampler(tmp_path / "file" / "run", model, 600.0) is model
    assert not (saved / "auto.json").exists()


def test_a_model_without_samplers_has_no_choice(tmp_path: Path) -> None:
    recipe = recipes.read("mhvae", ["hierarchy.widths=[6, 3]", "hierarchy.hidden=8", "hierarchy.depth=1"])
    model = HierarchicalModel.fresh(recipe, data.load("moons", data.DataOptions(count=60)).spec)
    assert choose_sampler(tmp_path, model, 600.0) is model
