"""``torchrun -m sfumato sample`` and ``likelihood``: several processes make what one makes, and one speaks for all.

Processes are started by torchrun's module, never by a fork. What is compared was computed in batches of the same
size: a process takes whole batches of samples, and half of each batch that is scored.
"""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato.cli.main import main

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SMALL = ["network.width=8", "data.count=200"]


def torchrun(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Two processes of one thread each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*TORCHRUN, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=240
    )


def together(*arguments: object) -> tuple[dict[str, Any], str]:
    """What two processes print with --json, of which there must be one object, and what they said beside it."""
    done = torchrun("-m", "sfumato", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def alone(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def near(a: Any, b: Any) -> None:
    """Numbers within 1e-6, everything else equal, but for what tells of the clock and of files."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a.keys() - {"seconds", "files"}:
            near(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            near(one, other)
    elif isinstance(a, float):
        assert a == pytest.approx(b, abs=1e-6, rel=1e-6)
    else:
        assert a == b


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "moons"
    assert main(["train", "moons", *SMALL, "--steps", "20", "--out", str(folder)]) == 0
    return folder


def test_two_processes_draw_the_samples_of_one(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    # Seven in batches of three: one of each process, and one that is left over.
    sample = ("sample", run, "-n", 7, "--batch", 3, "--sampler", "adaptive", "--pairs", "--out")
    ours, _ = alone(capsys, *sample, tmp_path / "one.npz")
    theirs, said = together(*sample, tmp_path / "two.npz")
    near(ours, theirs)
    assert ours["evaluations"] > 5
    assert said.count(" samples by ") == 1
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        assert set(one) == set(two) == {"samples", "noise"}
        for name in one:
            assert one[name].shape == (7, 2)
            np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-6)


def test_two_processes_score_as_one(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "far.npy", np.random.default_rng(0).normal(3, 1, (8, 2)).astype(np.float32))
    score = ("likelihood", run, "moons", "-n", 8, "--evaluations", 20, "--against", tmp_path / "far.npy")
    score += ("--tolerance", "1e-3")
    ours, _ = alone(capsys, *score, "--batch", 4, *written(tmp_path / "one"))
    theirs, said = together(*score, "--batch", 8, *written(tmp_path / "two"))
    near(ours, theirs)
    assert said.count("bits/dim of 8 samples") == 1
    one, two = (list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines())) for name in ("one", "two"))
    assert len(one) == 8
    assert {"bound_bits_per_dim", "flow_bits_per_dim", "norms"} <= set(one[0])
    for row, other in zip(one, two, strict=True):
        near({name: float(x) for name, x in row.items()}, {name: float(x) for name, x in other.items()})
    near(json.loads((tmp_path / "one.json").read_text()), json.loads((tmp_path / "two.json").read_text()))


def written(stem: Path) -> tuple[object, ...]:
    return "--out", stem.with_suffix(".png"), "--per-sample", stem.with_suffix(".csv")


def test_a_mistake_gets_a_line_of_each_and_no_hang(run: Path) -> None:
    started = time.monotonic()
    done = torchrun("-m", "sfumato", "sample", run, "--sampler", "nonsense")
    assert time.monotonic() - started < 60
    assert done.returncode != 0
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if "nonsense" in line]
    assert 1 <= len(lines) <= 2
    assert all(line.startswith("sfumato sample: error: sampler: 'nonsense' is not known") for line in lines)


def test_a_film_is_drawn_by_the_first_alone(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither waits for the other: there is nobody here to wait for."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    film = ["sample", str(run), "-n", "4", "--steps", "3", "--sampler", "ddim", "--out", str(tmp_path / "film.gif")]
    capsys.readouterr()
    monkeypatch.setenv("RANK", "1")
    assert main(film) == 0
    assert not (tmp_path / "film.gif").exists()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    assert main(film) == 0
    assert (tmp_path / "film.gif").stat().st_size > 0


# Data with levels, whose cells are filled with noise; a learned variance; both kinds of trace; a hierarchical VAE. Each
# is measured by two processes in batches of six and by one in batches of three, which are halves of the former. Then
# one process fails.
SCRIPT = """
import faulthandler
import torch
from sfumato import data, recipes
from sfumato.denoisers import Condition, Denoiser
from sfumato.likelihood import LikelihoodOptions
from sfumato.model import Model
from sfumato.shared_denoiser import shared
from sfumato.evaluation.out_of_distribution import score_norms
from sfumato import kinds
from sfumato.world import LostProcessError, joined

faulthandler.dump_traceback_later(100, exit=True)  # were it to hang, where
torch.set_num_threads(1)
small = ["network.kind=unet", "network.width=8", "network.multipliers=[1]", "network.blocks=1", "network.attention=[]"]
small += ["conditioning=none"]  # a few digits, some classes with one

def model(name, settings):
    recipe = recipes.read(name, ["data.limit=40", *settings])
    dataset = data.load("digits", recipe.data.options())
    torch.manual_seed(0)
    made = kinds.fresh(recipe, dataset.spec)
    with torch.no_grad():
        for weight in made.module.parameters():  # what begins at zero is to matter as well
            weight += 0.05 * torch.randn_like(weight)
    made.module.eval().requires_grad_(False)
    return made, dataset.spec.encode(dataset.values[:12])

def same(ours, theirs, at_least=1):
    found = 0
    for name, one in vars(ours).items():
        if isinstance(one, torch.Tensor):
            torch.testing.assert_close(vars(theirs)[name], one, rtol=1e-5, atol=1e-6, equal_nan=True)
            found += one.isfinite().any().item()
    assert found >= at_least

class Conditional(Denoiser):
    # The prediction of another denoiser, with x_0 moved by a tenth of the class.
    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.process = denoiser, denoiser.process
    def forward(self, x_t, t, cond=None):
        prediction = self.denoiser(x_t, t)
        moved = prediction.x_0 + 0.1 * cond.classes[:, None, None, None]
        return prediction.with_x_0(moved, self.process.level(t, like=x_t))

ddpm, x = model("ddpm", small + ["process.schedule.steps=8", "target=v"])
deep, y = model("mhvae", [])
conditional, classes = Model(Conditional(ddpm.denoiser), ddpm.spec), Condition(classes=torch.arange(12))
learned, z = model("improved-ddpm", small + ["process.schedule.steps=8"])
def fails(first, last):
    if first:
        raise ValueError("mine")
    return torch.zeros(last, 1)

try:
    with joined(torch.device("cpu"), 60) as world:
        assert world.size == 2
        def both(measure, data, cond=None, **settings):
            ours = measure(data, LikelihoodOptions(batch=3, **settings), cond=cond)
            same(ours, measure(data, LikelihoodOptions(batch=6, **settings), cond=cond, world=world), 2)
        both(ddpm.bound, x, evaluations=16)
        both(ddpm.bound, x, evaluations=None)
        both(learned.bound, z, evaluations=None)
        both(ddpm.flow, x[:6], probes=2, draws=2, tolerance=1e-2)
        both(ddpm.flow, x[:6], probes=1, by="uniform", draws=2, tolerance=1e-2)
        both(deep.bound, y, evaluations=3)
        both(conditional.bound, x, classes, evaluations=None)
        both(conditional.flow, x[:6], classes.rows(slice(6)), probes=1, draws=2, tolerance=1e-2)
        ours = conditional.sample(12, seed=1, steps=4, batch=2, cond=classes)
        torch.testing.assert_close(conditional.sample(12, seed=1, steps=4, batch=2, cond=classes, world=world), ours)
        whole = score_norms(shared(ddpm.denoiser, world), x, 6)
        torch.testing.assert_close(whole, score_norms(ddpm.denoiser, x, 3), rtol=1e-5, atol=1e-6)
        for made, settings in ((ddpm, {"sampler": "ancestral", "steps": 5}), (deep, {})):
            ours = made.sample(9, seed=3, first=5, batch=2, **settings)
            torch.testing.assert_close(made.sample(9, seed=3, first=5, batch=2, world=world, **settings), ours)
            torch.testing.assert_close(made.sample(1, seed=3, first=13, world=world, **settings), ours[8:])
        # Gradients of sums over all rows, and of one row alone.
        a, b = (x.clone().requires_grad_() for _ in range(2))
        t = torch.linspace(0.2, 0.9, len(x), dtype=torch.float64)
        for denoiser, at in ((ddpm.denoiser, a), (shared(ddpm.denoiser, world), b)):
            found = denoiser(at, t, None)
            (found.x_0.square().sum() + found.eps[7].sum()).backward()
        torch.testing.assert_close(b.grad, a.grad)
        world.shared(5, fails)
except LostProcessError as error:
    print(f"{world.rank}: {error}")
except ValueError as error:
    print(f"{world.rank}: {error}")
"""


def test_what_is_shared_out_is_what_one_computes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started = time.monotonic()
    done = torchrun(script)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 100
    said = sorted(done.stdout.splitlines())
    assert said[0].startswith("0: process 0 of 2: another process exited or stopped responding (60 s). Restart")
    assert said[1] == "1: mine"


def test_the_page_shows_the_script() -> None:
    root = Path(__file__).parents[2]
    script = (root / "examples" / "slurm.sh").read_text(encoding="utf-8")
    assert f"```bash\n{script}```" in (root / "docs" / "cluster.md").read_text(encoding="utf-8")
