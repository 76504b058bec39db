import json
import os
from pathlib import Path

import pytest
import torch

from sfumato.training import checkpoint

PARTS = {
    "weights": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.int64)},
    "optimizer": {"0.step": torch.tensor(3.0)},
}


def save(folder: Path, images: int, keep: int = 2) -> Path:
    return checkpoint.save(folder, images, PARTS, {"images": images, "seconds": 1.5}, keep)


def fail(message: str) -> None:
    raise AssertionError(message)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    place = save(tmp_path, 128)
    assert checkpoint.newest(tmp_path, fail) == place
    parts, state = checkpoint.load(place)
    assert state == {"images": 128, "seconds": 1.5}
    assert parts.keys() == PARTS.keys()
    for name, tensors in PARTS.items():
        assert parts[name].keys() == tensors.keys()
        assert all(torch.equal(parts[name][key], value) for key, value in tensors.items())


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    for images in (5, 40, 300, 2000):
        save(tmp_path, images)
    assert [place.name for place in checkpoint.checkpoints(tmp_path)] == ["000000000300", "000000002000"]


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "remove"])
def test_a_damaged_one_is_passed_over_with_a_message(tmp_path: Path, name: str, harm: str) -> None:
    older = save(tmp_path, 100)
    newer = save(tmp_path, 200)
    file = newer / name
    data = bytearray(file.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
    elif harm == "truncate":
        file.write_bytes(data[:-1])
    elif harm == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
    said: list[str] = []
    assert checkpoint.newest(tmp_path, said.append) == older
    assert len(said) == 1
    assert str(newer) in said[0]
    # Saving the same count again moves the damaged one aside and leaves a whole one.
    assert save(tmp_path, 200) == newer
    assert checkpoint.damage(newer) is None
    assert newer.with_name(newer.name + ".damaged").is_dir()


def test_every_single_bit_counts(tmp_path: Path) -> None:
    place = save(tmp_path, 1)
    generator = torch.Generator().manual_seed(0)
    files = sorted(place.iterdir())
    for _ in range(100):
        file = files[int(torch.randint(len(files), (), generator=generator))]
        data = file.read_bytes()
        bit = int(torch.randint(8 * len(data), (), generator=generator))
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        assert checkpoint.damage(place) is not None, (file.name, bit)
        file.write_bytes(data)
    assert checkpoint.damage(place) is None


def test_none_to_find(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "nowhere", fail) is None


def test_a_whole_one_is_not_written_again(tmp_path: Path) -> None:
    place = save(tmp_path, 1)
    stamp = (place / "manifest.json").stat().st_mtime_ns
    assert save(tmp_path, 1) == place
    assert (place / "manifest.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("stage", ["save_file", "_write_json", "_flush", "rename"])
def test_a_failure_at_any_stage_leaves_the_old_one_and_no_stump(
    tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = save(tmp_path, 100)

    def broken(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    if stage == "rename":
        monkeypatch.setattr(os, "rename", broken)
    else:
        monkeypatch.setattr(checkpoint, stage, broken)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 200)
    assert checkpoint.newest(tmp_path, fail) == older
    assert [place.name for place in tmp_path.iterdir()] == [older.name]


def test_stumps_of_killed_processes_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".writing-000000000100-1").mkdir()
    save(tmp_path, 200)
    assert [place.name for place in tmp_path.iterdir()] == ["000000000200"]


def test_an_optimiser_goes_on_exactly() -> None:
    def run(steps: int, cut: int | None) -> torch.Tensor:
        p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = torch.optim.AdamW([p], lr=0.1)
        for i in range(steps):
            if i == cut:
                stored = checkpoint.optimizer_tensors(optimizer)
                optimizer = torch.optim.AdamW([p], lr=0.1)
                checkpoint.load_optimizer(optimizer, stored)
            optimizer.zero_grad()
            (p**2).sum().backward()
            optimizer.step()
        return p.detach()

    assert torch.equal(run(7, None), run(7, 3))


def test_the_manifest_lists_every_file(tmp_path: Path) -> None:
    place = save(tmp_path, 1)
    listed = set(json.loads((place / "manifest.json").read_text()))
    assert listed == {file.name for file in place.iterdir()} - {"manifest.json"}
    (place / "extra").write_text("x")
    assert checkpoint.damage(place) == "extra is not in the manifest"
