"""What is drawn for a step: the same for every image, whichever process, batch or micro-batch it comes in."""

from pathlib import Path

import pytest
import torch

from sfumato import kinds, recipes
from sfumato.core import PairedNoise, SeededNoise
from sfumato.data import DataOptions, Dataset, load
from sfumato.objectives import Batch, optimal_transport
from sfumato.runs.folder import RunFolder
from sfumato.training import Trainer
from sfumato.training.draws import Draws
from sfumato.world import World


@pytest.fixture(scope="module")
def moons() -> Dataset:
    return load("moons", DataOptions(count=300))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", DataOptions(limit=100))


def draws(dataset: Dataset, recipe: str, run: Path, *settings: str) -> Draws:
    small = ["network.width=8", *settings]
    model = kinds.fresh(recipes.read(recipe, small), dataset.spec)
    return Trainer(model, dataset.samples(), RunFolder(run)).engine.draws


def tensors(batch: Batch) -> list[torch.Tensor]:
    parts = [batch.x_0, batch.uniform, keys(batch), batch.noise(1, batch.x_0), batch.noise(2, batch.x_0)]
    if batch.cond is None:
        return parts
    assert batch.cond.augmentation is not None
    return [*parts, batch.cond.augmentation]


def keys(batch: Batch) -> torch.Tensor:
    assert isinstance(batch.noise, (SeededNoise, PairedNoise))
    return batch.noise.keys


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [("ddpm", ()), ("flow", ("objective.pairing=optimal-transport",))],
)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_processes_share_out_the_batch_of_one(
    recipe: str, settings: tuple[str, ...], size: int, moons: Dataset, tmp_path: Path
) -> None:
    d = draws(moons, recipe, tmp_path, *settings)
    whole = tensors(d.batch(1000, 37, (0, 37)))
    parts = [tensors(d.batch(1000, 37, World(rank, size).rows(37))) for rank in range(size)]
    for expected, *found in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat(found), expected)


def test_augmented_images_too(digits: Dataset, tmp_path: Path) -> None:
    d = draws(digits, "edm", tmp_path)
    whole = d.batch(64, 16, (0, 16))
    assert whole.cond is not None
    assert not torch.equal(whole.x_0, d.data.take(d.samples(64, 16, (0, 16))).values)
    halves = [tensors(d.batch(64, 16, rows)) for rows in ((0, 8), (8, 16))]
    for expected, first, second in zip(tensors(whole), *halves, strict=True):
        assert torch.equal(torch.cat([first, second]), expected)
    for a, b in zip(tensors(whole.rows(3, 9)), tensors(d.batch(64, 16, (3, 9))), strict=True):
        assert torch.equal(a, b)


def test_pairs_are_those_of_the_whole_batch(moons: Dataset, tmp_path: Path) -> None:
    paired = draws(moons, "flow", tmp_path / "a", "objective.pairing=optimal-transport")
    plain = draws(moons, "flow", tmp_path / "b")
    rows = (5, 20)
    batch, unpaired = paired.batch(0, 64, rows), plain.batch(0, 64, (0, 64))
    z = optimal_transport(unpaired.noise)(1, unpaired.x_0)
    assert torch.equal(batch.noise(1, batch.x_0), z[slice(*rows)])


def test_times_are_stratified_over_the_whole_batch(moons: Dataset, tmp_path: Path) -> None:
    d = draws(moons, "ddpm", tmp_path)
    batch = d.batch(512, 50, (20, 40))
    assert (batch.uniform * 50).floor().tolist() == list(range(20, 40))


def test_the_next_batch_goes_on_where_the_last_one_ended(moons: Dataset, tmp_path: Path) -> None:
    """The keys and the order belong to the number of the image, whatever the size of the batches."""
    d = draws(moons, "ddpm", tmp_path)
    long = d.batch(100, 60, (0, 60))
    first, second = d.batch(100, 25, (0, 25)), d.batch(125, 35, (0, 35))
    assert torch.equal(torch.cat([first.x_0, second.x_0]), long.x_0)
    assert torch.equal(torch.cat([keys(first), keys(second)]), keys(long))
    parts = [d.samples(100, 25, (0, 25)), d.samples(125, 35, (0, 35))]
    assert torch.equal(torch.cat(parts), d.samples(100, 60, (0, 60)))
