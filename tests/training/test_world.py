"""Two processes beside one: the same run, resumed across numbers of processes, and no hanging when one is lost.

Processes are started by torchrun's module, never by a fork.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sfumato.world import ALONE, World

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# Dropout, so that masks are seen to belong to samples; an odd batch, so that the two have different shares.
SMALL = ["network.width=32", "network.dropout=0.2", "training.batch=65", "data.count=500", "sampling.steps=2"]
SCRIPT = Path(__file__).with_name("without_page.py")


def command(processes: int, *arguments: object) -> list[str]:
    start = TORCHRUN if processes == 2 else [sys.executable]
    return [*start, str(SCRIPT), "train", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def train(processes: int, *arguments: object) -> None:
    done = subprocess.run(command(processes, *arguments), capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr


@contextmanager
def training(processes: int, out: Path) -> Iterator[subprocess.Popen[str]]:
    """A long run that has written its first row; killed in the end if it is still there."""
    process = subprocess.Popen(
        command(processes, "moons", *SMALL, "--steps", 10**7, "--out", out, "--timeout", "20s"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (out / "metrics.jsonl").exists() or '"train"' not in (out / "metrics.jsonl").read_text():
            assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun started."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not path.exists():
        pytest.skip("the system does not tell the children of a process")
    return [int(word) for word in path.read_text().split()]


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    return [row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if row["kind"] == kind]


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = max(place for place in (run / "checkpoints").iterdir() if place.name.isdigit())
    return load_file(newest / "weights.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    train(1, "moons", *SMALL, "--steps", 100, "--out", out)
    return out


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("together") / "run"
    train(2, "moons", *SMALL, "--steps", 50, "--out", out)
    return out


def same(a: Path, b: Path, steps: list[int]) -> None:
    """Losses within 1e-6 relative: the sums are taken in another order, and nothing else differs."""
    for kind in ("train", "held_out"):
        ours = {row["step"]: row["loss"] for row in rows(a, kind)}
        theirs = {row["step"]: row["loss"] for row in rows(b, kind)}
        both = sorted(ours.keys() & theirs.keys())
        assert both
        assert {s for s in both if s in steps} == {s for s in steps if s in ours}
        assert [ours[s] for s in both] == pytest.approx([theirs[s] for s in both], rel=1e-6)


def test_two_processes_make_the_run_of_one(alone: Path, together: Path) -> None:
    same(alone, together, [25, 50])


def test_what_two_began_one_goes_on_with(alone: Path, together: Path) -> None:
    train(1, "--resume", together, "--steps", 100)
    same(alone, together, [25, 50, 75, 100])
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(together)[name], value, rtol=1e-3, atol=1e-5)


def test_what_one_began_two_go_on_with(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(1, "moons", *SMALL, "--steps", 50, "--out", out)
    train(2, "--resume", out, "--steps", 100)
    same(alone, out, [25, 50, 75, 100])


def test_what_two_began_in_shards_one_goes_on_with_and_the_other_way_round(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(2, "moons", *SMALL, "--steps", 50, "--out", out, "--shard", "--micro-batch", 20)
    assert len(list((out / "checkpoints").glob("*/weights-*-of-2.safetensors"))) == 2
    train(1, "--resume", out, "--steps", 75)
    train(2, "--resume", out, "--steps", 100, "--shard")
    same(alone, out, [25, 50, 75, 100])
    ours, theirs = (load_file(run / "model.safetensors") for run in (alone, out))
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-3, atol=1e-5)
    ours, theirs = (rows(run, "average")[-1]["bounds"] for run in (alone, out))
    assert [bound for _, bound in theirs] == pytest.approx([bound for _, bound in ours], rel=1e-5)


def test_sigterm_to_two_processes_ends_them_with_a_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with training(2, out) as process:
        for worker in workers(process):
            os.kill(worker, signal.SIGTERM)
        process.communicate(timeout=60)
    stop = rows(out, "stop")[-1]
    assert stop["reason"] == "terminated"
    assert [int(place.name) for place in (out / "checkpoints").iterdir() if place.name == f"{stop['images']:012d}"]
    train(1, "--resume", out, "--steps", int(stop["step"]) + 1)


def test_when_one_is_killed_the_other_ends_with_a_message(tmp_path: Path) -> None:
    with training(2, tmp_path / "run") as process:
        os.kill(workers(process)[1], signal.SIGKILL)
        started = time.monotonic()
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert time.monotonic() - started < 40
    assert "sfumato train: failed: " in said
    assert "process 0 of 2: another process exited or stopped responding" in said


def test_rows_are_shared_out_once_each() -> None:
    for size in (1, 2, 3, 7):
        parts = [World(rank, size).rows(20) for rank in range(size)]
        assert [row for first, last in parts for row in range(first, last)] == list(range(20))
        assert max(last - first for first, last in parts) - min(last - first for first, last in parts) <= 1


def test_alone_nothing_is_asked_of_anybody() -> None:
    assert ALONE.is_main
    assert ALONE.sum(torch.ones(2)).tolist() == [1, 1]
    assert ALONE.separate_group() is ALONE
    assert ALONE.max(3.0) == [3.0]
    assert ALONE.gather_text("words") == ["words"]
    rows = torch.arange(6).reshape(3, 2)
    assert torch.equal(ALONE.gather(rows, 3), rows)


TALK = """
import errno, sys
from pathlib import Path
import torch
from sfumato.training import checkpoint
from sfumato.errors import InputError
from sfumato.training import joined
with joined(torch.device("cpu")) as world:
    first, last = world.rows(5)
    rows = torch.arange(10.0).reshape(5, 2)
    assert torch.equal(world.gather(rows[first:last], 5), rows)
    for among in (world, world.separate_group()):
        assert among.sum(torch.tensor([1.0, world.rank])).tolist() == [2.0, 1.0]
    assert world.max(world.rank, -world.rank) == [1.0, 0.0]
    assert world.gather_text("from " + "zero" * (1 - world.rank)) == ["from zero", "from "]
    assert world.is_main == (world.rank == 0)
    # A disk that refuses one process its slice of a checkpoint: both are told, and nothing half written stays.
    folder, write = Path(sys.argv[1]), checkpoint.save_file
    def full(tensors, file):
        raise OSError(errno.ENOSPC, "No space left on device")
    parts = {"weights": {"w": torch.full((2,), float(world.rank))}}
    checkpoint.save(folder, 1, parts, {}, world=world)
    if world.rank == 1:
        checkpoint.save_file = full
    try:
        checkpoint.save(folder, 2, parts, {}, world=world)
    except InputError as error:
        assert "cannot write (No space left on device); free some" in str(error)
    else:
        raise AssertionError("one went on")
    world.wait()
    assert [place.name for place in folder.iterdir()] == ["000000000001"]
    assert checkpoint.load(folder / "000000000001")[0]["weights"]["w"].tolist() == [0, 0, 1, 1]
    for refusing in (0, 1):
        try:
            with world.raise_together():
                if world.rank == refusing:
                    raise InputError(f"mine, says {refusing}")
        except InputError as error:
            assert str(error) == f"mine, says {refusing}"
        else:
            raise AssertionError("one went on")
    world.wait()
"""


def test_two_processes_tell_each_other(tmp_path: Path) -> None:
    script = tmp_path / "talk.py"
    script.write_text(TALK)
    done = subprocess.run(
        [*TORCHRUN, str(script), str(tmp_path / "checkpoints")], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
