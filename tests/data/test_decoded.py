"""Folders whose images are decoded when they are needed: the same samples, training and resumed run as in memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sfumato import kinds, recipes, score
from sfumato.data import DataOptions, Dataset, decoded, folder, load
from sfumato.errors import InputError
from sfumato.runs.evaluating import own_real_data
from sfumato.runs.folder import RunFolder
from sfumato.runs.lifecycle import begin, untrained
from sfumato.runs.sources import load_data, own_data
from sfumato.training import Trainer


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder has very many files."""
    monkeypatch.setattr(folder, "MANY", 1)


def photos(path: Path, count: int = 40, size: int = 8) -> Path:
    """Images of two classes."""
    values = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    for i, image in enumerate(values):
        (path / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / "ab"[i % 2] / f"{i:03}.png")
    return path


def both(path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Dataset, Dataset]:
    """The images in memory, and decoded when they are needed."""
    inside = load(str(path), DataOptions(**options))
    with monkeypatch.context() as patch:
        patch.setattr(folder, "MANY", 1)
        return inside, load(str(path), DataOptions(**options))


@pytest.mark.parametrize("options", [{}, {"size": (5, 6)}, {"convert": "gray"}, {"limit": 11}, {"layout": "vector"}])
@pytest.mark.parametrize("cache", [0, 5 * 8 * 8 * 3, 2**29])
def test_the_samples_are_those_in_memory(
    options: dict[str, Any], cache: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded, "_CACHE", cache)
    inside, outside = both(photos(tmp_path), monkeypatch, **options)
    assert not outside.in_memory
    measured = ("second_moment", "diameter", "fingerprint")
    assert replace(outside.spec, **{name: getattr(inside.spec, name) for name in measured}) == inside.spec
    assert outside.labels is not None
    assert torch.equal(outside.labels, inside.labels)
    index = torch.randint(len(inside), (100,), generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        ours, theirs = outside.samples().take(index), inside.samples().take(index)
        assert torch.equal(ours.values, theirs.values)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(outside.rows(index), inside.rows(index))


def test_deep_images_keep_every_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, image in enumerate(np.random.default_rng(0).integers(0, 65536, (4, 6, 6)).astype(np.uint16)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    inside, outside = both(tmp_path, monkeypatch)
    assert torch.equal(outside.rows(torch.arange(4)), inside.values)
    assert outside.rows(torch.arange(4)).dtype == torch.int32


def test_the_cache_is_bounded_and_used(tmp_path: Path, many: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "_CACHE", 10 * 8 * 8 * 3)
    dataset = load(str(photos(tmp_path)))
    read: list[str] = []
    decode = decoded.decode
    monkeypatch.setattr(decoded, "decode", lambda image, options: read.append(str(image)) or decode(image, options))
    for expected in (40, 30, 30):
        read.clear()
        dataset.rows(torch.randperm(40))
        assert len(read) == expected


def test_large_images_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path)
    monkeypatch.setattr("sfumato.data.mapped.LARGE", 40 * 8 * 8 * 3)
    assert not load(str(tmp_path)).in_memory
    monkeypatch.setattr("sfumato.data.mapped.LARGE", 40 * 8 * 8 * 3 + 1)
    assert load(str(tmp_path)).in_memory


def test_numbers_without_bounds_are_all_read(tmp_path: Path, many: None) -> None:
    import tifffile

    for i in range(3):
        tifffile.imwrite(tmp_path / f"{i}.tif", np.random.default_rng(i).normal(size=(4, 4)).astype(np.float32))
    assert load(str(tmp_path)).in_memory


def test_only_a_part_is_read_at_first(tmp_path: Path, many: None, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path)
    monkeypatch.setattr(folder, "_LOOKED_AT", 7)
    done: list[tuple[int, int]] = []
    dataset = load(str(tmp_path), progress=lambda *each: done.append(each))
    assert done[-1] == (7, 7)
    assert (len(dataset), dataset.spec.count) == (40, 40)


def test_another_image_takes_the_place_of_one_that_cannot_be_read(
    tmp_path: Path, many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path)
    monkeypatch.setattr(folder, "_LOOKED_AT", 1)
    warnings: list[str] = []
    dataset = load(str(tmp_path), warn=warnings.append)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    whole = dataset.rows(torch.arange(40))
    again = load(str(tmp_path), warn=warnings.append)
    (tmp_path / names[9]).write_bytes(b"no image")
    found = again.rows(torch.tensor([8, 9, 9, 10]))
    assert torch.equal(found, whole[torch.tensor([8, 10, 10, 10])])
    assert len(warnings) == 1
    assert f"'{names[9]}' cannot be read" in warnings[0]
    assert f"'{names[10]}' takes its place" in warnings[0]
    stopping = load(str(tmp_path), DataOptions(unreadable="stop"))
    with pytest.raises(InputError, match=rf"'{names[9]}' .*cannot be read .*data.unreadable=skip"):
        stopping.rows(torch.tensor([9]))


def test_files_that_are_gone_end_the_reading(tmp_path: Path, many: None) -> None:
    dataset = load(str(photos(tmp_path / "photos")))
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="put back the files"):
        dataset.rows(torch.tensor([3]))


def test_empty_files_are_left_out_before_training(tmp_path: Path, many: None, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path)
    monkeypatch.setattr(folder, "_LOOKED_AT", 1)
    (tmp_path / "a" / "empty.png").touch()
    dataset = load(str(tmp_path))
    assert len(dataset) == 40
    assert dataset.skipped == (("a/empty.png", "the file is empty"),)
    with pytest.raises(InputError, match=r"1 files.* are empty; the first: 'a/empty.png'"):
        load(str(tmp_path), DataOptions(unreadable="stop"))


@pytest.mark.parametrize(("mode", "size", "fix"), [("RGB", (9, 8), "data.size"), ("L", (8, 8), "data.convert")])
def test_another_kind_of_image_is_named(
    mode: str, size: tuple[int, int], fix: str, tmp_path: Path, many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path)
    monkeypatch.setattr(folder, "_LOOKED_AT", 1)
    dataset = load(str(tmp_path))
    Image.new(mode, size).save(tmp_path / "a" / "000.png")
    with pytest.raises(InputError, match=rf"'a/000.png' .*others are 8x8, 3 channels, uint8; set {fix}"):
        dataset.rows(torch.arange(40))


def test_changed_files_are_noticed(tmp_path: Path, many: None) -> None:
    photos(tmp_path)
    before = load(str(tmp_path)).spec.fingerprint
    assert load(str(tmp_path)).spec.fingerprint == before
    path = tmp_path / "a" / "000.png"
    path.rename(tmp_path / "a" / "0000.png")
    assert load(str(tmp_path)).spec.fingerprint != before


def test_training_and_a_resumed_run_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "_CACHE", 15 * 8 * 8 * 3)
    inside, _ = both(photos(tmp_path / "photos"), monkeypatch)
    settings = ["network.kind=mlp", "network.width=16", "training.batch=16", "base=none"]

    def trained(dataset: Dataset, name: str, *steps: int) -> dict[str, torch.Tensor]:
        (tmp_path / name).mkdir()
        for number, last in enumerate(steps):
            torch.manual_seed(0)
            run = RunFolder(tmp_path / name)
            trainer = Trainer(kinds.fresh(recipes.read("flow", settings), inside.spec), dataset.samples(), run)
            if number:
                trainer.resume(lambda text: None)
            trainer.train(steps=last)
        return load_file(tmp_path / name / "model.safetensors")

    expected = trained(inside, "inside", 7)
    for found in (
        trained(both(tmp_path / "photos", monkeypatch)[1], "outside", 7),
        trained(both(tmp_path / "photos", monkeypatch)[1], "resumed", 3, 7),
    ):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_run_on_such_a_folder_is_scored_and_judged(tmp_path: Path, many: None) -> None:
    source = str(photos(tmp_path / "photos", 80, 4))
    settings = ["data.layout=vector", "network.width=8", "training.batch=8", "sampling.steps=2", "base=none"]
    recipe = recipes.read("flow", settings)
    dataset = load_data(source, recipe)
    model, run = untrained(source, recipe, dataset), RunFolder(tmp_path / "run")
    run.path.mkdir()
    begin(source, run, model, None)
    Trainer(model, dataset.samples(), run).train(steps=2)
    assert score(run.path, count=4, evaluations=4, flow=False).bits_per_dim > 0
    own = own_data(run)
    assert not own.in_memory
    assert len(own_real_data(own, kinds.load(run.path), 32, 0).reference) == 32
