"""Arrays that stay in their file: the same contract, samples, training and resumed run as in memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sfumato import kinds, recipes
from sfumato.cli.main import main
from sfumato.data import DataOptions, Dataset, load, mapped
from sfumato.data.stored import StoredSamples
from sfumato.errors import InputError
from sfumato.runs.folder import RunFolder
from sfumato.training import Trainer


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array is large."""
    monkeypatch.setattr(mapped, "LARGE", 1)


def both(path: Path, values: np.ndarray, monkeypatch: pytest.MonkeyPatch, **options) -> tuple[Dataset, Dataset]:
    """The data set in memory, and in its file."""
    np.save(path, values)
    inside = load(str(path), DataOptions(**options))
    with monkeypatch.context() as patch:
        patch.setattr(mapped, "LARGE", 1)
        return inside, load(str(path), DataOptions(**options))


CASES = {
    "vectors": (np.float32, (70, 5), {}),
    "signals": (np.float32, (70, 2, 9), {}),
    "images, channels last": (np.uint8, (70, 8, 8, 3), {}),
    "a limit": (np.uint8, (70, 8, 8, 1), {"limit": 30}),
    "whole numbers": (np.int64, (70, 4), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_contract_and_the_samples_are_those_in_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype, shape, options = CASES[name]
    values = np.random.default_rng(0).normal(100, 30, shape).clip(0, 255).astype(dtype)
    inside, outside = both(tmp_path / "x.npy", values, monkeypatch, **options)
    assert outside.in_memory == (name == "a limit")  # a part of a file is read
    # The diameter comes from one pass; it is at least half of the largest distance.
    assert outside.spec.diameter >= 0.5 * inside.spec.diameter
    assert replace(outside.spec, diameter=inside.spec.diameter) == inside.spec
    assert torch.equal(outside.rows(torch.arange(len(inside))), inside.values)
    index = torch.tensor([3, 0, 29, 3])
    ours, theirs = outside.samples().take(index), inside.samples().take(index)
    assert torch.equal(ours.values, theirs.values)
    assert torch.equal(outside.encoded(index), inside.encoded(index))
    assert (path := tmp_path / "x.npy").stat().st_size > 0
    assert np.array_equal(np.load(path), values)


def test_conversions_are_read_into_memory(tmp_path: Path, large: None) -> None:
    for dtype in (np.float64, ">f4", np.bool_, np.uint16):
        np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 3)).astype(dtype))
        assert load(str(tmp_path / "x.npy")).in_memory


def test_what_is_wrong_with_an_array_is_found_in_its_file(tmp_path: Path, large: None) -> None:
    values = np.zeros((40, 3), np.float32)
    values[17, 1] = np.nan
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(InputError, match=r"1 values in 1 of 40 samples.*sample 17"):
        load(str(tmp_path / "x.npy"))


def test_only_what_fits_is_read_together(tmp_path: Path, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    dataset = load(str(tmp_path / "x.npy"))
    monkeypatch.setattr("sfumato.data.dataset._TOGETHER", 30)
    assert dataset.fitting(torch.arange(40)).tolist() == list(range(10))
    assert len(replace(dataset, held=torch.zeros(40, 3)).fitting(torch.arange(40))) == 40


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux how much of the file is in memory")
def test_the_memory_is_given_back(tmp_path: Path, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (2**13, 1, 64, 64), np.uint8))  # 32 MiB

    def resident() -> int:
        """Bytes of the file in memory."""
        lines = Path("/proc/self/smaps").read_text().split(str(path))[1:]
        return sum(int(part.partition("Rss:")[2].split()[0]) * 1024 for part in lines)

    dataset = load(str(path))
    assert resident() < 2**23
    monkeypatch.setattr(mapped, "_GIVEN_BACK", 2**20)
    source = dataset.samples()
    assert isinstance(source, StoredSamples)
    for first in range(0, 2**13, 64):
        source.take(torch.arange(first, first + 64))
    assert resident() < 2**23
    source.take(torch.randperm(2**13, generator=torch.Generator().manual_seed(0))[:4000])
    dataset.rows(torch.arange(0, 2**13, 2))
    assert resident() < 2**23


def test_training_and_a_resumed_run_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    inside, outside = both(tmp_path / "x.npy", values, monkeypatch)
    settings = ["network.kind=mlp", "network.width=16", "training.batch=16", "base=none"]

    def trained(dataset: Dataset, name: str, *steps: int) -> dict[str, torch.Tensor]:
        for number, last in enumerate(steps):
            torch.manual_seed(0)
            trainer = Trainer(
                kinds.fresh(recipes.read("flow", settings), dataset.spec),
                dataset.samples(),
                RunFolder(tmp_path / name),
            )
            if number:
                trainer.resume(lambda text: None)
            trainer.train(steps=last)
        return load_file(tmp_path / name / "model.safetensors")

    for name in ("inside", "outside", "resumed"):
        (tmp_path / name).mkdir()
    expected = trained(inside, "inside", 12)
    for found in (trained(outside, "outside", 12), trained(outside, "resumed", 5, 12)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_random_part_is_looked_at(tmp_path: Path, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32))
    monkeypatch.setattr("sfumato.data.dataset._TOGETHER", 300)
    assert main(["inspect", str(tmp_path / "x.npy"), "--device", "cpu", "--json"]) == 0
