"""What a finished run keeps: its newest checkpoint, from which it goes on exactly."""

from pathlib import Path

import pytest

from sfumato.cli.main import main
from sfumato.runs.folder import RunFolder
from sfumato.training import checkpoint

TINY = ["network.kind=mlp", "network.width=8", "network.depth=1", "training.batch=64", "sampling.steps=3"]
FLAGS = ["--threads", "1", "--precision", "float32"]

pytestmark = pytest.mark.usefixtures("no_pages")


def train(out: Path, steps: int, *more: str) -> RunFolder:
    assert main(["train", "moons", *TINY, "--steps", str(steps), "--out", str(out), *FLAGS, *more]) == 0
    return RunFolder(out)


def test_it_keeps_its_newest_checkpoint_and_goes_on_exactly(tmp_path: Path) -> None:
    whole, parts = train(tmp_path / "whole", 80), train(tmp_path / "parts", 40)
    assert [path.name for path in checkpoint.checkpoints(parts.checkpoints)] == [f"{40 * 64:012d}"]
    size = parts.weights.stat().st_size
    assert sum(file.stat().st_size for file in parts.checkpoints.rglob("*.safetensors")) < 8 * size
    assert not (parts.path / "averages").exists()
    assert main(["train", "--resume", str(parts.path), "--steps", "80", *FLAGS]) == 0
    assert parts.weights.read_bytes() == whole.weights.read_bytes()
    ends = [checkpoint.checkpoints(run.checkpoints) for run in (whole, parts)]
    assert len(ends[0]) == len(ends[1]) == 1
    for file in sorted(ends[0][0].glob("*.safetensors")):
        assert file.read_bytes() == (ends[1][0] / file.name).read_bytes()


def test_more_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    run = train(tmp_path / "run", 3, "--keep-last", "2")
    assert [int(path.name) for path in checkpoint.checkpoints(run.checkpoints)] == [0, 3 * 64]
    run = train(tmp_path / "other", 3, "--keep-every", "100")
    assert [int(path.name) for path in checkpoint.checkpoints(run.checkpoints)] == [3 * 64]
