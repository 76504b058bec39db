"""A hierarchical VAE in the same loop."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sfumato import kinds, recipes
from sfumato.core import SeededNoise
from sfumato.data import DataOptions, Dataset, load
from sfumato.hierarchical import MarkovianHVAE
from sfumato.objectives import Batch, NegativeELBO
from sfumato.runs.folder import RunFolder
from sfumato.training import NonFiniteError, Trainer, checkpoint

SETTINGS = [
    "hierarchy.levels=2",
    "hierarchy.hidden=16",
    "hierarchy.depth=1",
    "training.batch=32",
    "training.warmup=64",
    "training.learning_rate=3e-3",
]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load("moons", DataOptions(count=500))


def trainer(run: Path, dataset: Dataset, *settings: str) -> Trainer:
    run.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = kinds.fresh(recipes.read("mhvae", [*SETTINGS, *settings]), dataset.spec)
    return Trainer(model, dataset.samples(), RunFolder(run))


def rows(run: Path, kind: str) -> list[dict[str, object]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def test_a_resumed_run_is_the_run_to_the_bit(tmp_path: Path, dataset: Dataset) -> None:
    whole = trainer(tmp_path / "a", dataset)
    whole.train(steps=40)
    trainer(tmp_path / "b", dataset).train(steps=17)
    second = trainer(tmp_path / "b", dataset)
    second.resume(pytest.fail)
    second.train(steps=40)
    mine, its = whole.engine, second.engine
    pairs = zip([mine.state.module, *mine.state.ema.modules], [its.state.module, *its.state.ema.modules], strict=True)
    for ours, theirs in pairs:
        expected, found = ours.state_dict(), theirs.state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Trainer:
    """After enough steps to have learnt something."""
    t = trainer(tmp_path_factory.mktemp("learned"), dataset)
    t.train(steps=300)
    return t


def test_what_is_measured_is_the_bound(learned: Trainer) -> None:
    measured = learned.held_out.measure(learned.averaged.module)
    assert [set(row) for row in measured["levels"]] == [{"loss", "error", "train_loss"}]
    assert measured["loss"] == measured["levels"][0]["loss"]
    # Another estimate of the same: the definition of the bound, one path a sample, on all that is held out.
    module = learned.averaged.module
    assert isinstance(module, MarkovianHVAE)
    x = learned.held_out.held_out.values.repeat(50, 1)
    with torch.no_grad():
        nats = module.log_ratio(x, SeededNoise.samples(1, len(x))).view(50, -1).mean(0) / 2
    count, spread = len(nats), float(nats.std())
    assert float(measured["loss"]) == pytest.approx(float(nats.mean()), abs=5 * spread / math.sqrt(8 * count))


def test_training_learns(learned: Trainer) -> None:
    last = float(rows(learned.run.path, "held_out")[-1]["loss"])  # type: ignore[arg-type]
    # The best single Gaussian for data of unit variance without correlation has 1.419 nats a number.
    assert last < 0.5 * math.log(2 * math.pi * math.e)


class Poison(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x) * float("nan")
        return y


def test_a_bad_layer_is_named_without_a_noise_level(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset)
    t.train(steps=3)
    assert isinstance(t.engine.state.module, MarkovianHVAE)
    network = t.engine.state.module.generator.networks[1]  # type: ignore[union-attr, index]
    network.head = Poison(network.head)  # type: ignore[union-attr, operator, index]
    with pytest.raises(
        NonFiniteError,
        match=r"step 4: samples .* and 27 more in .*; first bad layer: generator.networks.1.head",
    ):
        t.engine.step()
    assert checkpoint.newest(tmp_path / "checkpoints", pytest.fail) is not None


def test_the_uniform_numbers_choose_nothing(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset)
    loss, x, noise = NegativeELBO(), t.engine.data.take(torch.arange(5)).values, SeededNoise.samples(0, 5)
    expected = t.engine.state.module.loss(x, noise)  # type: ignore[operator]
    for u in (0.1, 0.9):
        uniform = torch.full((5,), u, dtype=torch.float64)
        batch = Batch(x, uniform, noise)
        assert torch.equal(loss(t.engine.state.module, batch), expected)
        assert torch.equal(loss.evaluate(t.engine.state.module, batch), expected)
        assert loss.noise_levels(t.engine.state.module, uniform) is None
