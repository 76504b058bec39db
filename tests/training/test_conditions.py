"""A condition per sample: sample i sees condition i in training, in measuring, and in the choice of an average."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import kinds, recipes
from sfumato.data import DataOptions, Dataset, Samples, load
from sfumato.denoisers import Condition
from sfumato.objectives import Batch, Loss
from sfumato.recipes.conditioning import NoConditioning
from sfumato.runs.folder import RunFolder
from sfumato.training import Compute, Options, Trainer
from sfumato.training.held_out import AT_ONCE, LEVELS, HeldOut
from sfumato.world import World

from .conftest import SMALL_MLP

COUNT = 90
PAIRED = ("flow", "objective.pairing=optimal-transport")


@pytest.fixture(scope="module")
def moons() -> Dataset:
    return load("moons", DataOptions(count=COUNT))


def numbered(dataset: Dataset) -> Samples:
    """Samples whose label is their number."""
    return Samples(dataset.samples().values, labels=torch.arange(COUNT))


def by_label(samples: Samples) -> Condition:
    assert samples.labels is not None
    return Condition(classes=samples.labels)


@pytest.fixture(autouse=True)
def conditional(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes whose samples have their label as a condition."""
    monkeypatch.setattr(NoConditioning, "condition", lambda section, samples: by_label(samples))


def made(run: Path, dataset: Dataset, preset: str = "ddpm", *settings: str, micro_batch: int | None = None) -> Trainer:
    torch.manual_seed(0)
    model = kinds.fresh(recipes.read(preset, [*SMALL_MLP, *settings]), dataset.spec)
    options = Options(compute=Compute(micro_batch, threads=1))
    return Trainer(model, numbered(dataset), RunFolder(run), options)


def watched(loss: Loss[Any], monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches that a loss is asked for; the network itself takes no condition."""
    seen: list[Batch] = []

    def recording(original: Callable[[Any, Batch], Tensor]) -> Callable[[Any, Batch], Tensor]:
        def record(module: Any, batch: Batch) -> Tensor:
            seen.append(batch)
            return original(module, replace(batch, cond=None))

        return record

    for name in ("losses", "even_losses"):
        monkeypatch.setattr(loss, name, recording(getattr(loss, name)))
    return seen


def classes(batch: Batch) -> Tensor:
    assert batch.cond is not None
    assert batch.cond.classes is not None
    return batch.cond.classes


def check(batches: list[Batch], dataset: Dataset) -> None:
    """The label of each sample is the number that has its values."""
    values = dataset.samples().values
    assert batches
    for batch in batches:
        assert torch.equal(values[classes(batch)], batch.x_0)


@pytest.mark.parametrize(("preset", "setting"), [("ddpm", "training.seed=1"), PAIRED])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_rows_of_a_batch_bring_their_conditions(
    preset: str, setting: str, size: int, moons: Dataset, tmp_path: Path
) -> None:
    draws = made(tmp_path, moons, preset, setting).engine.draws
    batches = [draws.batch(100, 37, World(rank, size).rows(37)) for rank in range(size)]
    check(batches, moons)
    numbers = torch.cat([classes(batch) for batch in batches])
    assert torch.equal(numbers, draws.data.take(draws.order.indices(100, 37)).labels)


def test_micro_batches_bring_their_conditions(moons: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(tmp_path, moons, micro_batch=7).engine
    seen = watched(engine.loss, monkeypatch)
    engine.step()
    assert [len(batch) for batch in seen] == [6, 6, 7, 6, 7]
    check(seen, moons)
    numbers = torch.cat([classes(batch) for batch in seen])
    assert torch.equal(numbers, engine.data.take(engine.draws.order.indices(0, 32)).labels)


def test_augmented_images_keep_their_conditions(tmp_path: Path) -> None:
    digits = load("digits", DataOptions(limit=COUNT))
    settings = ["network.width=8", "training.batch=32", "training.augment=0.5", "conditioning=none"]
    model = kinds.fresh(recipes.read("edm", settings), digits.spec)
    draws = Trainer(model, numbered(digits), RunFolder(tmp_path)).engine.draws
    batch = draws.batch(0, 32, (0, 32))
    assert torch.equal(classes(batch), draws.data.take(draws.order.indices(0, 32)).labels)
    assert batch.cond is not None
    assert batch.cond.augmentation is not None
    still = (batch.cond.augmentation == 0).all(1)
    assert torch.equal(digits.samples().values[classes(batch)][still], batch.x_0[still])


class OneOfTwo(World):
    """Process 0 or 1 of two, without the other: its rows stand in for those of the other."""

    def gather(self, rows: Tensor, count: int) -> Tensor:
        return torch.cat([rows, rows])[:count]


@pytest.mark.parametrize("world", [World(), OneOfTwo(0, 2), OneOfTwo(1, 2)])
def test_measurements_bring_their_conditions(
    world: World, moons: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = made(tmp_path, moons)
    seen = watched(trainer.engine.loss, monkeypatch)
    data, few = trainer.engine.data, numbered(moons).take(torch.arange(0, COUNT, 2))
    HeldOut.of(trainer.engine.loss, few, data, 0, world, by_label).measure(trainer.engine.state.module)
    check(seen, moons)
    first, last = world.rows(min(AT_ONCE // len(few), LEVELS) * len(few))
    assert {len(batch) for batch in seen} == {last - first}


def test_the_curve_and_the_choice_of_an_average_are_conditional(
    moons: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = made(tmp_path, moons)
    learned = watched(trainer.engine.loss, monkeypatch)
    chosen_by = watched(trainer._bound.loss, monkeypatch)
    trainer.train(steps=2)
    assert trainer.choice is not None
    check(learned, moons)
    check(chosen_by, moons)
