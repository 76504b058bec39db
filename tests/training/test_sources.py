"""The training set is asked for rows: one that is not in memory gives the same run to the bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Int64
from torch import Tensor

from sfumato import recipes
from sfumato.data import DataOptions, Dataset, Samples, SampleSource, load
from sfumato.model import Model
from sfumato.runs.folder import RunFolder
from sfumato.training import Compute, Options, Trainer

from .conftest import SMALL_MLP


class Mapped:
    """Samples in a file, of which only the rows that are asked for are read."""

    def __init__(self, path: Path) -> None:
        self._values = np.load(path, mmap_mode="r")
        self.asked: list[int] = []
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self._values)

    def take(self, index: Int64[Tensor, "n"]) -> Samples:
        self.asked.append(len(index))
        return Samples(torch.from_numpy(np.array(self._values[index.numpy()])))


@pytest.fixture(scope="module")
def moons() -> Dataset:
    return load("moons", DataOptions(count=300))


def trained(run: Path, source: SampleSource, dataset: Dataset) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Checkpointed tensors after some steps, one of them after a measurement, and the last measurement."""
    run.mkdir()
    torch.manual_seed(0)
    model = Model.fresh(recipes.read("ddpm", SMALL_MLP), dataset.spec)
    trainer = Trainer(model, source, RunFolder(run), Options(compute=Compute(threads=1)))
    trainer.train(steps=10)
    tensors = trainer.engine.state.tensors()
    flat = {f"{file}.{key}": value for file, named in tensors.items() for key, value in named.items()}
    return flat, trainer.measure(30)


def test_a_source_that_is_not_in_memory_gives_the_same_run(tmp_path: Path, moons: Dataset) -> None:
    path = tmp_path / "values.npy"
    np.save(path, moons.samples().values.numpy())
    source = Mapped(path)
    tensors, measured = trained(tmp_path / "mapped", source, moons)
    expected, expected_measured = trained(tmp_path / "memory", moons.samples(), moons)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], value) for name, value in expected.items())
    assert measured == expected_measured
    # Never more at once than a batch, or what is measured.
    assert max(source.asked) <= 128
    assert source.asked.count(32) >= 10
