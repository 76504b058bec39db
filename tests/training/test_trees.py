"""Growing trees: against LightGBM's own predictions, the truth of known mixtures, and an uninterrupted run."""

import csv
import json
import math
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from sfumato import kinds, recipes
from sfumato.cli.main import main
from sfumato.data import Dataset, load, split
from sfumato.denoisers import GaussianMixture, TreesDenoiser
from sfumato.errors import InputError
from sfumato.model import Model
from sfumato.restoration import Mask
from sfumato.runs.folder import RunFolder
from sfumato.training.trees import Grower, _packed, _trees, grown, unfinished

lightgbm = pytest.importorskip("lightgbm", reason="LightGBM, the extra 'trees', is not installed")

SMALL = ["trees.levels=4", "trees.trees=4", "trees.rows=600", "training.held_out=0.2"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path, (x, y) = tmp_path / "flowers.csv", load_iris(return_X_y=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", "d", "species"])
        writer.writerows([*map(float, row), "xyz"[kind]] for row, kind in zip(x[::2], y[::2], strict=True))
    return path


def fresh(table: Path, *settings: str) -> tuple[Model, Dataset]:
    recipe = recipes.read("trees", [*SMALL, *settings])
    dataset = load(str(table), recipe.data.options())
    model = kinds.fresh(recipe, dataset.spec)
    assert isinstance(model, Model)
    return model, dataset


def test_packed_trees_predict_as_lightgbm_does():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 3)).astype(np.float32)
    target = np.sin(2 * x[:, 0]) * x[:, 1] + x[:, 2] ** 2
    settings = {"verbose": -1, "num_threads": 1, "num_leaves": 7, "max_depth": 4, "boost_from_average": False}
    booster = lightgbm.train(settings, lightgbm.Dataset(x, target), 5)
    made = TreesDenoiser(recipes.read("trees").build_process(), 3, 0, 1, trees=6, leaves=7, depth=4)
    trees = [*_trees(booster.model_to_string()), None]  # one tree fewer than there is room for
    for name, found in zip(("feature", "number", "child"), _packed([*trees, *[None] * 12], 7), strict=True):
        getattr(made, name)[0, 0] = torch.from_numpy(found)
    found = made.forest(0, 0, torch.from_numpy(x))
    np.testing.assert_allclose(found[:, 0].numpy(), booster.predict(x), rtol=1e-5, atol=1e-5)
    assert not found[:, 1:].any()


def test_an_interrupted_run_ends_with_the_same_trees(table, tmp_path):
    model, dataset = fresh(table)
    Grower(model, dataset.samples()).grow()
    other, run = fresh(table)[0], RunFolder(tmp_path / "b")
    run.checkpoints.mkdir(parents=True)
    first = Grower(other, dataset.samples())
    assert first.grow(run, stopped=lambda: "asked" if first.level == 2 else None) == "asked"
    assert not run.weights.exists()
    last = fresh(table)[0]
    again = Grower(last, dataset.samples())
    again.resume(run)
    assert again.level == 2
    seen: list[tuple[int, int]] = []
    assert again.grow(run, lambda done, total: seen.append((done, total))) == "levels"
    assert seen == [(3, 4), (4, 4)]
    assert not unfinished(run).exists()
    for name, value in model.denoiser.state_dict().items():
        assert torch.equal(value, last.denoiser.state_dict()[name]), name


def test_trees_bring_samples_nearer_to_two_moons_than_the_gaussian_is():
    dataset = load("moons", recipes.read("trees", ["data.count=600"]).data.options())
    model = kinds.fresh(recipes.read("trees", ["trees.levels=16", "trees.trees=20", "conditioning=none"]), dataset.spec)
    grower = Grower(model, dataset.samples())
    before = model.sample(400, steps=16)
    grower.grow()
    after = model.sample(400, steps=16)
    far = [torch.cdist(each, dataset.values.float()).min(1).values.mean() for each in (before, after)]
    assert far[1] < far[0] / 2


@pytest.mark.parametrize(("dimensions", "part"), [(2, 0.6), (8, 0.9)])
def test_bits_of_a_known_mixture_are_never_below_the_truth_and_nearer_to_it_than_the_gaussians(
    dimensions, part, tmp_path
):
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([[-1.0], [1.0]], dtype=torch.float64).expand(2, dimensions)
    mixture = GaussianMixture.isotropic(means, 0.5)
    np.save(tmp_path / "mixture.npy", mixture.sample(1500, generator).float().numpy())
    fresh_x = mixture.sample(400, generator).float()
    truth = -mixture.log_prob(fresh_x.double())
    recipe = recipes.read("trees", ["trees.levels=20", "trees.trees=20", "trees.rows=3000"])
    dataset = load(str(tmp_path / "mixture.npy"), recipe.data.options())
    model = kinds.fresh(recipe, dataset.spec)
    assert isinstance(model, Model)
    x_0 = dataset.spec.encode(fresh_x)
    grower = Grower(model, dataset.samples())
    gaussian = float((model.bound(x_0).nats - truth).mean())
    grower.grow()
    bound = model.bound(x_0)
    gap = bound.nats - truth
    error = float((gap.var() / len(gap) + bound.variance.mean() / len(gap)).sqrt())
    assert -2 * error < float(gap.mean()) < part * gaussian


def test_a_mask_is_filled_in_as_the_exact_posterior_does():
    dataset = load("moons", recipes.read("trees", ["data.count=600"]).data.options())
    model = kinds.fresh(recipes.read("trees", ["trees.levels=16", "trees.trees=20", "conditioning=none"]), dataset.spec)
    grown(model, dataset.samples())
    assert isinstance(model, Model)
    y = torch.tensor([[0.0]])
    found = model.reconstruct(y, Mask(torch.tensor([True, False]), (2,)), noise=0.05, draws=64)
    near = dataset.values[(dataset.values[:, 0].abs() < 0.05)][:, 1]
    # At x = 0 the moons are at about 1 and at 0.5: both are drawn, and nothing far from them.
    assert (found.draws[0, :, 0].abs() < 0.3).all()
    drawn = found.draws[0, :, 1].float()
    assert float(torch.cdist(drawn[:, None], near[:, None].float()).min(1).values.mean()) < 0.15
    assert 0.1 < float((drawn > 0.75).float().mean()) < 0.9


@pytest.mark.parametrize("method", ["mmps", "dps"])
def test_posteriors_that_differentiate_are_refused(method, table):
    model, dataset = fresh(table)
    grown(model, dataset.samples())
    cond = model.condition(1)
    with pytest.raises(InputError, match="no derivative"):
        model.reconstruct(
            torch.zeros(1, 1),
            Mask(torch.tensor([True, False, False, False]), (4,)),
            noise=0.1,
            method=method,
            cond=cond,
        )
    with pytest.raises(InputError, match="no derivative"):
        model.flow(dataset.spec.encode(dataset.values[:2]), cond=model.condition(2))


def test_from_a_table_to_samples_and_likelihoods_on_the_command_line(table, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", str(table), "--recipe", "trees", *SMALL, "--out", str(run)]) == 0
    assert "done after 4 levels" in capsys.readouterr().out
    assert {path.suffix for path in run.rglob("*") if path.is_file()} <= {
        ".json", ".md", ".safetensors", ".npz", ".html", ".svg", ".png", ".csv", "",
    }  # fmt: skip
    samples = tmp_path / "new.csv"
    assert main(["sample", str(run), "-n", "9", "--out", str(samples)]) == 0
    rows = list(csv.reader(samples.read_text().splitlines()))
    assert len(rows) == 10
    assert {row[-1] for row in rows[1:]} == set("xyz")
    assert main(["likelihood", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert math.isfinite(found["bound"]["bits_per_dim"])
    assert main(["inspect", str(table), "--recipe", "trees", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["seconds_per_pass"] is None
    assert main(["train", "--resume", str(run)]) == 2
    assert "all its trees are grown" in capsys.readouterr().err


def test_a_signal_between_levels_keeps_the_work_and_resume_goes_on_from_there(table, tmp_path, capsys, monkeypatch):
    run, grow = tmp_path / "run", Grower._grow

    def interrupted(self: Grower, row: int, x_0: torch.Tensor) -> None:
        if self.level == 1 and row == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        grow(self, row, x_0)

    monkeypatch.setattr(Grower, "_grow", interrupted)
    assert main(["train", str(table), "--recipe", "trees", *SMALL, "--out", str(run)]) == 143
    assert f"continue with: sfumato train --resume {run}" in capsys.readouterr().out
    assert not (run / "model.safetensors").exists()
    monkeypatch.setattr(Grower, "_grow", grow)
    assert main(["train", "--resume", str(run)]) == 0
    assert f"continuing {run} after 2 of 4 levels" in capsys.readouterr().out
    model, dataset = fresh(table)
    training, _ = split(len(dataset), 0.2, 0)
    Grower(model, dataset.samples().take(training)).grow()
    found = kinds.load(run).module.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in model.module.state_dict().items())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--budget", "10s"], "grown once"),
        (["--steps", "10"], "grown once"),
        (["trees.leaves=1"], "trees.leaves"),
        (["data.layout=signal"], "table"),
    ],
)
def test_what_trees_cannot_use_is_refused_before_anything_is_written(words, named, table, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", str(table), "--recipe", "trees", *words, "--out", str(run)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert named in error
    assert not run.exists()


def test_images_and_lone_rows_are_refused(table, tmp_path, capsys):
    assert main(["train", "digits", "--recipe", "trees", "--out", str(tmp_path / "run")]) == 2
    assert "not for images" in capsys.readouterr().err
    rows = table.read_text().splitlines()
    table.write_text("\n".join([*rows, "1,2,3,4,lone"]) + "\n")
    assert main(["train", str(table), "--recipe", "trees", "--out", str(tmp_path / "run")]) == 2
    assert "lone" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_several_processes_are_refused(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", str(table), "--recipe", "trees", "--out", str(tmp_path / "run")]) == 2
    assert "without torchrun" in capsys.readouterr().err


def test_without_the_library_one_line_says_what_to_install(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    assert main(["train", str(table), "--recipe", "trees", "--out", str(tmp_path / "run")]) == 2
    assert "pip install 'sfumato[trees]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
