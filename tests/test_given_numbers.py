"""Data given numbers: the conditional law, "not given" beside 0, guidance, dropout, every network, the commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from sfumato import kinds, recipes
from sfumato.cli.main import main
from sfumato.core import VP, LinearLogSNR, Prediction, Process
from sfumato.core.levels import expand
from sfumato.data import Dataset, load
from sfumato.denoisers import Condition, Denoiser
from sfumato.errors import InputError
from sfumato.generate import generate
from sfumato.guidance import ClassifierFree
from sfumato.likelihood import LikelihoodOptions
from sfumato.model import Model
from sfumato.runs.folder import RunFolder
from sfumato.runs.lifecycle import begin, untrained
from sfumato.runs.scoring import condition_of
from sfumato.runs.sources import own_data
from sfumato.sampling import ddim, grids
from sfumato.training import Trainer

PROCESS = Process(VP(), LinearLogSNR(-12.0, 12.0))
SLOPE, DEVIATION = 2.0, 0.5


class Linear(Denoiser):
    """x_0 given c is N(SLOPE c, DEVIATION^2), c is standard normal: without c, N(0, SLOPE^2 + DEVIATION^2)."""

    process = PROCESS

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        level = PROCESS.level(t, like=x_t)
        alpha, sigma = expand(level.alpha, x_t), expand(level.sigma, x_t)
        known = torch.zeros_like(x_t) if cond is None else cond.vector_given.to(x_t)
        mean = 0.0 if cond is None else SLOPE * cond.vector.to(x_t) * known
        variance = DEVIATION**2 + SLOPE**2 * (1 - known)
        total = alpha**2 * variance + sigma**2
        x_0 = mean + alpha * variance / total * (x_t - alpha * mean)
        return Prediction(x_0, (x_t - alpha * x_0) / sigma)


def drawn(weight: float, value: float, count: int = 4000) -> Tensor:
    cond = Condition(vector=torch.full((count, 1), value), vector_given=torch.ones(count, 1, dtype=torch.bool))
    table = ddim(PROCESS, grids.uniform(60))
    return generate(ClassifierFree(Linear(), weight), table, count, (1,), 0, cond=cond)[:, 0]


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_guidance_at_weight_1_is_the_conditional_law_and_at_0_the_marginal(value: float) -> None:
    # With 4,000 samples a test at 10^-4 finds a shift of 0.12 deviations with a probability above 0.95.
    assert kstest(drawn(1, value).numpy(), "norm", (SLOPE * value, DEVIATION)).pvalue > 1e-4
    assert kstest(drawn(0, value).numpy(), "norm", (0, (SLOPE**2 + DEVIATION**2) ** 0.5)).pvalue > 1e-4
    assert kstest(drawn(1, value + 0.03).numpy(), "norm", (SLOPE * value, DEVIATION)).pvalue < 1e-4


NETWORKS = {
    "mlp": (["network.kind=mlp", "network.width=16"], (3,)),
    "unet": (["network.kind=unet", "network.width=8", "network.attention=[]"], (1, 8, 8)),
    "dit": (["network.kind=dit", "network.width=16", "network.depth=1", "network.patch=4"], (1, 8, 8)),
}


def dataset(path: Path, shape: tuple[int, ...] = (1,), count: int = 4000, classes: bool = False) -> Dataset:
    """Samples whose mean is SLOPE times the number "heat", of mean 20 and deviation 3; "other" says nothing."""
    rng = np.random.default_rng(0)
    heat = rng.normal(20, 3, count)
    x = SLOPE * (heat[(...,) + (None,) * len(shape)] - 20) / 3 + rng.normal(0, DEVIATION, (count, *shape))
    others = {"y": (np.arange(count) % 2)} if classes else {}
    np.savez(path, x=x.astype(np.float32), heat=heat, other=rng.normal(size=count), **others)
    return load(str(path), recipes.read("flow", ["data.conditions=heat,other"]).data.options())


def fresh(name: str, path: Path, classes: bool = False) -> tuple[Model, Dataset]:
    settings, shape = NETWORKS[name]
    found = dataset(path, shape, 40, classes)
    torch.manual_seed(0)
    model = kinds.fresh(recipes.read("flow", [*settings, "base=none", "data.conditions=heat,other"]), found.spec)
    generator = torch.Generator().manual_seed(1)
    for weights in model.denoiser.parameters():
        weights.data += 0.1 * torch.randn(weights.shape, generator=generator)  # fresh networks return 0
    return model, found


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("classes", [False, True])
def test_each_sample_sees_its_own_numbers_in_any_batch(name: str, classes: bool, tmp_path: Path) -> None:
    model, found = fresh(name, tmp_path / "x.npz", classes)
    cond = model.recipe.condition(found.samples().take(torch.arange(7)))
    assert cond is not None
    assert (cond.classes is not None) == classes
    cond = cond.dropped(torch.arange(7) == 3, torch.arange(14).view(7, 2) % 5 == 0)
    x_t, t = torch.randn(7, *found.spec.shape, generator=torch.Generator().manual_seed(0)), torch.linspace(0.1, 1, 7)
    with torch.no_grad():
        together = model.denoiser(x_t, t, cond).x_0
        close = 1e-5 * max(float(together.abs().max()), 1.0)  # random weights make large values
        for i in range(7):
            alone = model.denoiser(x_t[i : i + 1], t[i : i + 1], cond.rows(slice(i, i + 1))).x_0
            torch.testing.assert_close(alone[0], together[i], rtol=0, atol=close)


@pytest.mark.parametrize("name", NETWORKS)
def test_not_given_is_another_thing_than_0(name: str, tmp_path: Path) -> None:
    model, found = fresh(name, tmp_path / "x.npz")
    x_t, t = torch.randn(2, *found.spec.shape), torch.tensor(0.5)

    def output(vector: list[float], given: list[bool]) -> Tensor:
        cond = Condition(vector=torch.tensor([vector] * 2), vector_given=torch.tensor([given] * 2))
        with torch.no_grad():
            return model.denoiser(x_t, t, cond).x_0

    zero = output([0.0, 0.0], [True, True])
    nothing = output([0.0, 0.0], [False, False])
    for other in (nothing, output([0.0, 0.0], [True, False]), output([1.0, 0.0], [True, True])):
        assert (other - zero).abs().max() > 1e-3
    assert torch.equal(output([7.0, -3.0], [False, False]), nothing)  # a number that is not given is not seen
    with torch.no_grad():
        assert torch.equal(model.denoiser(x_t, t).x_0, nothing)
        with pytest.raises(InputError, match="vector of 3 numbers; this network takes 2"):
            model.denoiser(x_t, t, Condition(vector=torch.zeros(2, 3)))


def test_numbers_are_left_out_in_training_together_and_alone(tmp_path: Path) -> None:
    model, found = fresh("mlp", tmp_path / "x.npz")
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    batch = Trainer(model, found.samples(), run).engine.draws.batch(0, 20_000, (0, 20_000))
    assert batch.cond is not None
    given = batch.cond.vector_given.double()
    # Of all, 0.1 have none; of the other 0.9, a tenth lose each number with probability one half.
    shares = [float((given.sum(1) == k).double().mean()) for k in range(3)]
    expected = [0.1 + 0.9 * 0.1 / 4, 0.9 * 0.1 / 2, 0.9 * (0.9 + 0.1 / 4)]
    assert shares == pytest.approx(expected, abs=4 * (0.25 / 20_000) ** 0.5)
    again = Trainer(model, found.samples(), run).engine.draws.batch(0, 20_000, (100, 200))
    assert torch.equal(again.cond.vector_given, batch.cond.vector_given[100:200])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run on numbers that move the mean."""
    folder = tmp_path_factory.mktemp("given")
    found = dataset(folder / "x.npz")
    recipe = recipes.read(
        "flow",
        [
            "network.kind=mlp",
            "network.width=32",
            "training.learning_rate=3e-3",
            "base=none",
            "training.warmup=1000",
            "data.conditions=heat,other",
        ],
    )
    model, run = untrained(str(folder / "x.npz"), recipe, found), RunFolder(folder / "run")
    run.path.mkdir()
    begin(str(folder / "x.npz"), run, model, None)
    Trainer(model, found.samples(), run).train(steps=700)
    return run.path


def test_a_trained_model_has_the_conditional_law(trained: Path) -> None:
    model = kinds.load(trained)
    for heat in (17.0, 20.0, 24.5):
        x = model.sample(400, given={"heat": heat}).double()
        # The model is trained for seconds: a tenth of the marginal deviation of 2.06 is what it must reach.
        assert float(x.mean()) == pytest.approx(SLOPE * (heat - 20) / 3, abs=0.25)
        assert float(x.std()) == pytest.approx(DEVIATION, abs=0.25)
    free = model.sample(400).double()
    assert float(free.mean()) == pytest.approx(0, abs=0.6)
    assert float(free.std()) == pytest.approx((SLOPE**2 + DEVIATION**2) ** 0.5, abs=0.5)
    rows = [{"heat": 17.0}, {"heat": 24.5, "other": 0.0}]
    assert torch.allclose(model.sample(2, given=rows)[:1], model.sample(1, given=rows[0]), atol=1e-4)
    further = model.sample(400, given={"heat": 23.0}, guidance=2).double()
    assert float(further.mean()) > float(model.sample(400, given={"heat": 23.0}).double().mean())


def test_likelihoods_are_given_the_numbers(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["likelihood", str(trained), "--count", "8", "--evaluations", "12", "--no-flow", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"].endswith("given its conditions")
    model, found = kinds.load(trained), own_data(RunFolder(trained))
    rows = torch.arange(300)
    cond, expected = condition_of(found, model, rows), model.recipe.condition(found.samples().take(rows))
    assert cond is not None
    assert all(torch.equal(part, expected.tensors[name]) for name, part in cond.tensors.items())
    told, untold = (model.bound(found.encoded(rows), LikelihoodOptions(evaluations=40), cond=c) for c in (cond, None))
    # The entropies are 1.0 and 3.1 bits; the error of the difference is about 0.3.
    assert told.estimate.mean < untold.estimate.mean - 0.5


def test_samples_are_asked_for_by_numbers(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["sample", str(trained), "--steps", "4"]
    asked = ["--condition", "heat=17", "--condition", "heat=24.5,other=0.1", "--per-class", "3"]
    out = tmp_path / "x.npz"
    assert main([*base, *asked, "--out", str(out)]) == 2  # the model has no classes
    assert "trained without classes" in capsys.readouterr().err
    assert main([*base, *asked[:4], "-n", "6", "--out", str(out)]) == 0
    with np.load(out) as file:
        assert file["condition_names"].tolist() == ["heat", "other"]
        expected = [[17, np.nan]] * 3 + [[24.5, 0.1]] * 3
        np.testing.assert_allclose(file["conditions"], expected, rtol=1e-5)
        assert file["samples"][:3].mean() < file["samples"][3:].mean()
    assert main([*base, *asked[:4], "-n", "6", "--out", str(tmp_path / "x.csv")]) == 0
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert lines[0] == "x1,heat,other"
    assert lines[1].endswith(",17,")
    assert lines[6].endswith(",24.5,0.1")
    for text, message in (
        ("heet=3", "condition 'heet' is not known; did you mean heat?"),
        ("heat", "'heat' is not understood"),
        ("heat=warm", "is not understood"),
        ("heat=nan", "give a finite number"),
    ):
        capsys.readouterr()
        assert main([*base, "--condition", text, "--out", str(out)]) == 2
        assert message in capsys.readouterr().err


def test_what_cannot_take_numbers_says_so(tmp_path: Path) -> None:
    found = dataset(tmp_path / "x.npz", (2,), 60)
    with pytest.raises(InputError, match="has no conditions; name them by"):
        kinds.fresh(recipes.read("flow", ["conditioning.kind=vector"]), load(str(tmp_path / "x.npz")).spec)
    with pytest.raises(InputError, match="trees take no numbers"):
        kinds.fresh(recipes.read("trees", []), found.spec)
    with pytest.raises(InputError, match="pairing: optimal transport"):
        recipes.read("flow", ["objective.pairing=optimal-transport"]).build_loss(found.spec)
    plain = kinds.fresh(recipes.read("flow", ["conditioning=none", "network.width=16"]), found.spec)
    with pytest.raises(InputError, match="was trained without them"):
        plain.sample(2, given={"heat": 1.0})
