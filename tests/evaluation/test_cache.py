"""Features are computed once per data and space, and a cache that is damaged, full or forbidden changes nothing."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sfumato.evaluation import cache
from sfumato.evaluation.extraction import features_of
from sfumato.evaluation.spaces import Space, module_features


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache.folder()


class Counting:
    """Features that count how many points they were asked for."""

    def __init__(self) -> None:
        self.points = 0

    def __call__(self, samples: Tensor) -> Tensor:
        self.points += len(samples)
        return samples.float().flatten(1) * 2


def test_features_are_computed_once_per_data_and_identity(folder: Path) -> None:
    count, points = Counting(), torch.arange(1400.0).reshape(700, 2)
    space = Space("own", count, identity="one")
    first = features_of(space, points)
    assert torch.equal(first, points * 2)
    assert torch.equal(features_of(space, points), first)
    assert count.points == 700
    features_of(Space("own", count, identity="two"), points)
    features_of(space, points + 1)
    features_of(space, points.double())
    assert count.points == 4 * 700
    features_of(space, points, keep=False)
    features_of(Space("own", count), points)
    assert count.points == 6 * 700
    assert len(list(folder.iterdir())) == 4


def test_a_damaged_file_is_written_again(folder: Path) -> None:
    space, points = Space("own", Counting(), identity="one"), torch.ones(3, 2)
    features_of(space, points)
    (file,) = folder.iterdir()
    file.write_bytes(b"half")
    assert torch.equal(features_of(space, points), points * 2)
    assert file.stat().st_size > 4


def test_the_longest_unused_are_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = lambda: {"a": torch.zeros(100)}  # noqa: E731
    keys = [cache.kept(str(i), torch.zeros(1), made)[1] for i in range(3)]
    for age, key in enumerate(keys):
        os.utime(folder / f"{key}.safetensors", (1000 + age, 1000 + age))
    size = (folder / f"{keys[0]}.safetensors").stat().st_size
    cache.kept("0", torch.zeros(1), made)  # used: now the newest
    monkeypatch.setattr(cache, "LARGEST", 3 * size)
    newest = cache.kept("3", torch.zeros(1), made)[1]
    assert {path.stem for path in folder.iterdir()} == {keys[0], keys[2], newest}


def test_no_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert torch.equal(cache.kept("a", torch.zeros(1), lambda: {"a": torch.ones(2)})[0]["a"], torch.ones(2))


def test_any_module_is_a_space() -> None:
    """It runs in evaluation mode and is left as it was."""
    module = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    points = torch.randn(150, 2, generator=torch.Generator().manual_seed(0))
    space = module_features("own", module, lambda samples: samples / 2)
    found = space.features(points)
    torch.testing.assert_close(found, module[0](points / 2).detach())
    assert module.training
    assert not found.requires_grad
