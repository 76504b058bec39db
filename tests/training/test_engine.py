"""The steps, without a folder, a record or a budget around them."""

from pathlib import Path

import pytest
import torch

from sfumato import recipes
from sfumato.data import DataOptions, Dataset, Samples, load
from sfumato.errors import InputError
from sfumato.model import Model
from sfumato.runs.folder import RunFolder
from sfumato.training import Compute, Engine, NonFiniteError, Options, Trainer, World, autotune
from sfumato.training.execution import Execution
from sfumato.training.optimizer import learning_rate
from sfumato.training.schedule import Schedule

from .conftest import SMALL_MLP

ALL = Compute()
ALONE = World()


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load("moons", DataOptions(count=400))


def engine(dataset: Dataset, *settings: str, compute: Compute = ALL, world: World = ALONE) -> Engine:
    recipe = recipes.read("ddpm", [*SMALL_MLP, *settings])
    torch.manual_seed(0)
    model = Model.fresh(recipe, dataset.spec)
    return Engine(model, Samples(model.spec.encode(dataset.values)), 7 + torch.arange(400), compute, world)


def test_a_step_is_a_function_of_seed_and_images_seen(dataset: Dataset) -> None:
    a, b = engine(dataset), engine(dataset)
    assert a.step() == b.step()
    torch.manual_seed(5)
    assert a.step() == b.step()
    c = engine(dataset, "training.seed=1")
    assert c.step() != engine(dataset).step()


def test_parts_two_numbers_and_the_schedule_are_all_of_its_state(dataset: Dataset) -> None:
    settings = ("objective.times=loss-aware", "target=v", "training.cooldown=0.5")
    whole = engine(dataset, *settings)
    whole.state.schedule = Schedule().until(300, 0)
    for _ in range(5):
        whole.step()
    whole.state.rewinds = 1
    other = engine(dataset, *settings)
    parts = {part: {name: x.clone() for name, x in tensors.items()} for part, tensors in whole.state.tensors().items()}
    other.state.load(parts, whole.images, whole.state.rewinds, whole.state.schedule, Path("place"))
    assert (other.images, other.steps) == (160, 5)
    assert [other.step() for _ in range(3)] == [whole.step() for _ in range(3)]
    expected, found = whole.state.tensors(), other.state.tensors()
    assert expected.keys() == found.keys() == {"weights", "averages", "objective", "optimizer"}
    for part, tensors in expected.items():
        assert tensors
        assert found[part].keys() == tensors.keys()
        assert all(torch.equal(found[part][name], value) for name, value in tensors.items())


@pytest.mark.parametrize("part", ["weights", "averages", "objective"])
def test_a_part_that_is_missing_is_named_by_its_file(dataset: Dataset, part: str) -> None:
    e = engine(dataset, "objective.times=loss-aware", "target=v")
    parts = {name: tensors for name, tensors in e.state.tensors().items() if name != part}
    with pytest.raises(InputError, match=rf"^place.{part}\.safetensors: "):
        e.state.load(parts, 64, 0, Schedule(), Path("place"))
    assert e.images == 0


def test_a_sample_is_called_by_its_number(dataset: Dataset) -> None:
    e = engine(dataset)
    row = int(e.draws.order.indices(3, 1))
    e.data.values[row] = float("nan")
    with pytest.raises(
        NonFiniteError, match=rf"step 1: sample {7 + row} in a batch of 32.*the data itself is not finite"
    ):
        e.step()
    assert e.images == 0


def test_the_rate_warms_up_stays_and_falls(dataset: Dataset) -> None:
    e = engine(dataset, "training.learning_rate=0.5", "training.warmup=1000", "training.decay_after=9000")
    rates = [learning_rate(e.model.recipe.training, images, 0, e.state.schedule) for images in (10, 1000, 9000, 36_000)]
    assert rates == pytest.approx([0.005, 0.5, 0.5, 0.25])
    assert rates[1] == rates[2] == 0.5


def test_a_batch_in_parts_is_the_batch(dataset: Dataset) -> None:
    whole, parts = engine(dataset), engine(dataset, compute=Compute(micro_batch=7))
    for _ in range(5):
        (loss, norm), (other, other_norm) = whole.step(), parts.step()
        assert other == pytest.approx(loss, rel=1e-5)
        assert other_norm == pytest.approx(norm, rel=1e-4)


def test_a_batch_smaller_than_the_processes_is_refused(dataset: Dataset) -> None:
    with pytest.raises(InputError, match=r"^training.batch: 32 samples for 33 processes; give at least 33$"):
        engine(dataset, world=World(0, 33))


def test_a_batch_that_memory_does_not_hold_is_taken_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sfumato.training import memory

    dataset = load("digits", DataOptions(limit=100))

    def engine() -> Engine:
        recipe = recipes.read("ddpm", ["network.width=16", "training.batch=24"])
        torch.manual_seed(0)
        options = Options(compute=Compute(precision="float32", threads=1))
        return Trainer(Model.fresh(recipe, dataset.spec), dataset.samples(), RunFolder(tmp_path), options).engine

    whole = engine()
    autotune.prepare(whole)
    assert whole.micro_batch is None
    needed = autotune.bytes_needed(whole)
    monkeypatch.setattr(memory, "free", lambda device: int(0.8 * needed / memory.FILL))
    parts = engine()
    autotune.prepare(parts)
    assert parts.micro_batch in (12, 6)
    assert autotune.bytes_needed(parts) <= 0.8 * needed
    for _ in range(2):
        assert parts.step() == pytest.approx(whole.step(), rel=1e-4)
    assert parts.rounding()["micro_batch"] == parts.micro_batch


def test_gradient_checkpointing_changes_no_bit(tmp_path: Path) -> None:
    dataset = load("digits", DataOptions(limit=100))
    losses, needed = [], []
    for anew in (False, True):
        recipe = recipes.read("ddpm", ["network.width=16", "network.dropout=0.1", "training.batch=16"])
        torch.manual_seed(0)
        options = Options(compute=Compute(None, anew, "float32", 1))
        engine = Trainer(Model.fresh(recipe, dataset.spec), dataset.samples(), RunFolder(tmp_path), options).engine
        engine.apply(Execution(1, "float32"), None)
        losses.append([engine.step() for _ in range(3)])
        needed.append(autotune.bytes_needed(engine))
    assert losses[0] == losses[1]
    assert needed[1] < 0.7 * needed[0]
    points = load("moons", DataOptions(count=50))
    options = Options(compute=Compute(gradient_checkpointing=True))
    with pytest.raises(InputError, match=r"^--gradient-checkpointing"):
        Trainer(Model.fresh(recipes.read("ddpm"), points.spec), points.samples(), RunFolder(tmp_path), options)
