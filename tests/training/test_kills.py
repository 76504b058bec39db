"""A run that is killed again and again ends with the very weights of one that was left alone."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from sfumato.files import digest
from sfumato.training import checkpoint

STEPS, BATCH = 500, 16
KILLS = 4
SETTINGS = [
    "network.kind=mlp",
    "network.width=8",
    "network.depth=1",
    f"training.batch={BATCH}",
    "data.count=200",
    "sampling.steps=2",
]
SCRIPT = Path(__file__).with_name("without_page.py")
LIMIT = 120.0  # seconds that one process may take


def train(*argv: str) -> subprocess.Popen[str]:
    """``sfumato train`` in a process of its own with one thread: its end does not depend on what else is running."""
    command = [sys.executable, str(SCRIPT), "train", *argv, "--steps", str(STEPS), "--checkpoint-every", "0.1s"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def finished(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said


def images(run: Path) -> int:
    """Images seen at the newest checkpoint, -1 before the first."""
    return max((int(place.name) for place in checkpoint.checkpoints(run / "checkpoints")), default=-1)


def killed_after(process: subprocess.Popen[str], run: Path, goal: int, delay: float) -> bool:
    """Kill the process ``delay`` seconds after its checkpoints are at ``goal`` images; False if it ended first."""
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and images(run) < goal:
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    _, said = process.communicate()
    assert process.returncode in (0, -9, 1) if os.name == "nt" else process.returncode in (0, -9), said
    return process.returncode != 0


def results(run: Path) -> tuple[dict[str, str], list[int], list[tuple[int, float]]]:
    """Digests of the tensors, the steps of the record's rows, and its held-out losses."""
    place = checkpoint.newest(run / "checkpoints", lambda line: None)
    assert place is not None
    assert images(run) == STEPS * BATCH
    tensors = {file.name: digest(file) for file in [*place.glob("*.safetensors"), run / "model.safetensors"]}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["kind"] == "train"]
    return tensors, steps, [(row["images"], row["loss"]) for row in rows if row["kind"] == "held_out"]


def test_a_run_killed_at_random_times_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    alone, run = tmp_path / "alone", tmp_path / "killed"
    finished(train("moons", *SETTINGS, "--out", str(alone)))

    draw = random.Random()
    kills, process = 0, train("moons", *SETTINGS, "--out", str(run))
    for _ in range(KILLS):
        goal = max(images(run), 0) + draw.randint(0, STEPS // KILLS // 2) * BATCH
        kills += killed_after(process, run, goal, draw.uniform(0, 0.1))
        process = train("--resume", str(run))
    finished(process)

    assert kills >= 2, "the machine is too fast for this test: raise STEPS"
    tensors, steps, held_out = results(run)
    expected = results(alone)
    assert [name for name in expected[0] if tensors.get(name) != expected[0][name]] == []
    assert (tensors.keys(), steps, held_out) == (expected[0].keys(), *expected[1:])
    assert len(tensors) >= 4
    assert steps == list(range(25, STEPS + 1, 25))
    left = [path.name for folder in (run, run / "checkpoints") for path in folder.iterdir() if path.name[0] == "."]
    assert left == []
