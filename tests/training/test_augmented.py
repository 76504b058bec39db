"""Augmentation in the loop: a function of seed and images seen, told to the network, absent where it measures."""

from pathlib import Path

import pytest
import torch

from sfumato import kinds, recipes
from sfumato.data import AUGMENTATION_LABELS, DataOptions, Dataset, load
from sfumato.denoisers import Condition
from sfumato.errors import InputError
from sfumato.objectives import Batch
from sfumato.runs.folder import RunFolder
from sfumato.training import Trainer
from sfumato.training.execution import Execution

SETTINGS = ["network=unet", "network.width=8", "network.multipliers=[1,2]", "network.blocks=1", "network.groups=4"]
MORE = ["network.attention=[]", "training.batch=16", "training.augment=0.5"]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load("digits", DataOptions(limit=150))


def trainer(run: Path, dataset: Dataset, *settings: str) -> Trainer:
    run.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = kinds.fresh(recipes.read("edm", [*SETTINGS, *MORE, *settings]), dataset.spec)
    made = Trainer(model, dataset.samples(), RunFolder(run))
    made.engine.apply(Execution(1, "float32"), None)  # without trials
    return made


def test_a_resumed_run_is_the_run_to_the_bit(tmp_path: Path, dataset: Dataset) -> None:
    whole = trainer(tmp_path / "a", dataset)
    whole.train(steps=8)
    trainer(tmp_path / "b", dataset).train(steps=3)
    second = trainer(tmp_path / "b", dataset)
    second.resume(pytest.fail)
    second.train(steps=8)
    found = second.engine.state.module.state_dict()
    assert all(torch.equal(found[name], value) for name, value in whole.engine.state.module.state_dict().items())


def test_the_network_is_told_and_the_measurement_sees_images_as_they_are(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset)
    seen: list[Batch] = []
    original = t.engine.loss.forward

    def watched(module: object, batch: Batch) -> torch.Tensor:
        seen.append(batch)
        return original(module, batch)

    t.engine.loss.forward = watched  # type: ignore[method-assign]
    t.engine.step()
    x_0, cond = seen[0].x_0, seen[0].cond
    assert cond is not None
    cond = cond.augmentation
    assert cond is not None
    assert cond.shape == (16, AUGMENTATION_LABELS)
    plain = t.engine.data.take(t.engine.draws.order.indices(0, 16)).values
    alone = (cond == 0).all(1)
    # Each of six operations falls on half of the images: one in 64 is left as it was.
    assert int(alone.sum()) <= 4
    assert torch.equal(x_0[alone], plain[alone])
    assert (x_0[~alone] != plain[~alone]).flatten(1).any(1).sum() >= 10
    assert torch.equal(t.held_out.training.values, t.held_out.training.values.clamp(-1, 1))  # bicubic kernels overshoot


def test_samples_are_asked_for_without_a_condition(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset)
    t.train(steps=2)
    model = t.averaged
    x = torch.randn(3, 1, 8, 8)
    zeros = Condition(augmentation=torch.zeros(3, AUGMENTATION_LABELS))
    s = torch.tensor(0.5, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(model.denoiser(x, s).x_0, model.denoiser(x, s, zeros).x_0)


def test_other_data_is_left_alone(tmp_path: Path) -> None:
    moons = load("moons")
    recipe = recipes.read("edm").resolved(moons.spec)
    assert recipe.training.augment == 0
    assert all("condition" not in name for name in recipe.build(moons.spec).state_dict())


@pytest.mark.parametrize("settings", [("vdm", []), ("ddpm", ["objective.kind=sliced"]), ("mhvae", [])])
def test_where_moved_images_have_no_place_they_are_refused(settings: tuple[str, list[str]], dataset: Dataset) -> None:
    recipe = recipes.read(settings[0], [*settings[1], "training.augment=0.1"])
    with pytest.raises(InputError, match=r"^training.augment"):
        kinds.fresh(recipe, dataset.spec).recipe.build_loss(dataset.spec)
