"""Labels of the data as conditions: from the recipe to training, sampling and scores."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import sfumato
from sfumato import kinds, recipes
from sfumato.core import SeededNoise
from sfumato.data import DataOptions, Dataset, class_shares, load
from sfumato.denoisers import NOT_GIVEN, Condition
from sfumato.errors import InputError
from sfumato.objectives import optimal_transport
from sfumato.runs.evaluating import drawn, own_real_data
from sfumato.runs.folder import RunFolder
from sfumato.training import Compute, Options, Trainer

SMALL = ("network.kind=mlp", "network.width=32", "network.depth=1", "training.batch=64")


def labelled(path: Path, count: int = 600) -> str:
    """Two classes in two dimensions: a third at (-2, 0), the others at (2, 0), of standard deviation 0.3."""
    generator = np.random.default_rng(0)
    labels = np.where(np.arange(count) % 3 == 0, "left", "right")
    x = 0.3 * generator.standard_normal((count, 2)) + np.where(labels == "left", -2.0, 2.0)[:, None] * [1.0, 0.0]
    np.savez(path, x=x.astype(np.float32), labels=labels)
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[sfumato.Model, str, Path]:
    folder = tmp_path_factory.mktemp("classes")
    source = labelled(folder / "two.npz")
    settings = {"network.kind": "mlp", "network.width": 32, "network.depth": 1, "training.batch": 64}
    settings |= {"training.learning_rate": 0.005, "training.warmup": 0}
    run = folder / "run"
    model = sfumato.train(source, steps=600, out=run, settings=settings)
    return model, source, run


def data_of(path: Path) -> Dataset:
    return load(labelled(path))


def test_labels_are_used_unless_switched_off(tmp_path: Path) -> None:
    spec = data_of(tmp_path / "two.npz").spec
    assert recipes.read("ddpm").resolved(spec).conditioning.kind == "classes"
    assert recipes.read("ddpm", ["conditioning=none"]).resolved(spec).conditioning.kind == "none"
    assert recipes.read("ddpm").resolved(load("moons", DataOptions(count=50)).spec).conditioning.kind == "none"
    with pytest.raises(InputError, match="conditioning: moons has no labels"):
        recipes.read("ddpm", ["conditioning=classes"]).resolved(load("moons", DataOptions(count=50)).spec)


def test_a_class_with_one_sample_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(7, 2)), labels=[0, 0, 0, 1, 1, 1, 2])
    spec = load(str(tmp_path / "x.npz"), DataOptions(labels="labels")).spec
    with pytest.raises(InputError, match=r"class '2' of x\.npz has 1 sample"):
        recipes.read("ddpm").resolved(spec)


def test_the_share_of_dropped_labels_is_that_of_the_recipe(tmp_path: Path) -> None:
    data = data_of(tmp_path / "two.npz")
    model = kinds.fresh(
        recipes.read("ddpm", [*SMALL, "conditioning.kind=classes", "conditioning.dropout=0.3"]), data.spec
    )
    options = Options(compute=Compute(threads=1))
    draws = Trainer(model, data.samples(), RunFolder(tmp_path), options).engine.draws
    batch, n = draws.batch(0, 4000, (0, 4000)), 4000
    dropped = (batch.cond.classes == NOT_GIVEN).sum()
    assert abs(float(dropped) / n - 0.3) < 4 * math.sqrt(0.3 * 0.7 / n)
    part = draws.batch(0, 4000, (1000, 1500))  # a function of the image alone
    assert torch.equal(part.cond.classes, batch.cond.classes[1000:1500])


def test_noise_is_paired_within_classes() -> None:
    x_0 = torch.cat([torch.full((200, 1), -2.0), torch.full((200, 1), 2.0)]) + 0.3 * torch.randn(
        400, 1, generator=torch.Generator().manual_seed(0)
    )
    noise, groups = SeededNoise.samples(3, 400), torch.arange(400) // 200
    z = noise(1, x_0)
    within, over = (optimal_transport(noise, given)(1, x_0) for given in (groups, None))
    for group in (0, 1):
        own = groups == group
        assert torch.equal(within[own].sort(0).values, z[own].sort(0).values)
        assert torch.equal(x_0[own][:, 0].argsort(), within[own][:, 0].argsort())  # the best in one dimension
    assert float(over[:200].mean()) < -0.5  # what a conditional model would wrongly learn from
    assert abs(float(within[:200].mean())) < 4 / math.sqrt(200)


def test_shares_are_those_of_the_data_and_depend_on_the_number_alone(tmp_path: Path) -> None:
    spec = data_of(tmp_path / "two.npz").spec
    drawn = class_shares(spec, 300)
    assert abs(int((drawn == 0).sum()) - 100) <= 3
    assert torch.equal(class_shares(spec, 50, 100), drawn[100:150])


def near(samples: Tensor, x: float) -> Tensor:
    return (samples - torch.tensor([x, 0.0])).norm(dim=1) < 1.2


def test_samples_are_of_their_class(trained: tuple[sfumato.Model, str, Path]) -> None:
    model = trained[0]
    assert near(model.sample(100, classes="left"), -2).float().mean() > 0.9
    assert near(model.sample(100, classes="right"), 2).float().mean() > 0.9
    mixed = model.sample(4, classes=["left", "right", "right", "left"])
    assert torch.equal(mixed[:, 0] < 0, torch.tensor([True, False, False, True]))
    everything = model.sample(300)
    assert abs(float((everything[:, 0] < 0).float().mean()) - 1 / 3) < 0.05
    torch.testing.assert_close(model.sample(100, first=50, batch=7), everything[50:150], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("classes", "message"),
    [("lift", "did you mean left?"), ("zzzz", "the classes are left, right"), (["left"], "1 for 3 samples")],
)
def test_unknown_classes_are_answered_with_the_nearest(
    trained: tuple[sfumato.Model, str, Path], classes: str | list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        trained[0].sample(3, classes=classes)


def test_an_unconditional_model_has_no_classes() -> None:
    model = kinds.fresh(recipes.read("ddpm", SMALL), load("moons", DataOptions(count=50)).spec)
    with pytest.raises(InputError, match="was trained without classes"):
        model.sample(3, classes="left")


def test_the_held_out_loss_is_conditional(trained: tuple[sfumato.Model, str, Path], tmp_path: Path) -> None:
    model, source, _ = trained
    data = load(source)
    trainer = Trainer(model, data.samples(), RunFolder(tmp_path), Options(compute=Compute(threads=1)))
    told = trainer.held_out.value(model.module)
    wrong = replace(data, labels=1 - data.labels)
    fooled = Trainer(model, wrong.samples(), RunFolder(tmp_path), Options(compute=Compute(threads=1)))
    assert told < 0.7 * fooled.held_out.value(model.module)


def test_data_is_scored_under_its_labels(trained: tuple[sfumato.Model, str, Path], tmp_path: Path) -> None:
    model, _, run = trained
    score = sfumato.score(run, count=32, flow=False)
    values = model.spec.encode(torch.stack([torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 0.0])]))
    told = model.bound(values, cond=Condition(classes=torch.tensor([0, 1]))).bits
    fooled = model.bound(values, cond=Condition(classes=torch.tensor([1, 0]))).bits
    assert (told < fooled - 1).all()
    assert "given its classes" in score.name
    with pytest.raises(InputError, match="class 2 is none of the 2"):
        model.bound(values, cond=Condition(classes=torch.tensor([2, 0])))


def test_the_command_line(trained: tuple[sfumato.Model, str, Path], tmp_path: Path, capsys) -> None:
    from sfumato.cli.main import main

    run = str(trained[2])
    out = tmp_path / "x.npz"
    assert main(["sample", run, "--class", "right", "--class", "left", "--per-class", "5", "--out", str(out)]) == 0
    with np.load(out) as arrays:
        assert arrays["labels"].tolist() == ["right"] * 5 + ["left"] * 5
        assert ((arrays["samples"][:, 0] > 0) == [True] * 5 + [False] * 5).mean() >= 0.8
    assert load(str(out)).spec.class_names == ("left", "right")  # it can be trained on again
    table = tmp_path / "x.csv"
    assert main(["sample", run, "-n", "30", "--out", str(table)]) == 0
    assert Counter(line.split(",")[-1] for line in table.read_text().splitlines()[1:]).keys() == {"left", "right"}
    assert main(["sample", run, "--per-class", "3", "--out", str(tmp_path / "x.png")]) == 0
    capsys.readouterr()
    assert main(["sample", run, "--class", "lift"]) == 2
    assert "did you mean left?" in capsys.readouterr().err


def test_evaluation_knows_the_classes_that_samples_were_asked_to_be_of(
    trained: tuple[sfumato.Model, str, Path],
) -> None:
    model, source, _ = trained
    real = own_real_data(load(source), model, 60, 0)
    samples = drawn(model, 60, 0)
    assert real.labels is not None
    assert real.labels.samples is not None
    left = real.labels.names.index("left")
    right_side = (samples[:, 0] < 0) == (real.labels.samples == left)
    assert len(right_side) == 60
    assert right_side.double().mean() > 0.9  # without their classes it would be near 5 / 9
