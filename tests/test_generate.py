"""Drawing in batches by any denoiser: sample i sees condition i, and a model needs no network and no recipe."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sfumato import Model, sampling
from sfumato import generate as generate_module
from sfumato.core import VP, LinearLogSNR, Prediction, Process, SeededNoise
from sfumato.data import LAYOUTS, Affine, DataSpec
from sfumato.denoisers import Clamped, Condition, Denoiser, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.evaluation.scoring import DataToScore, score
from sfumato.generate import Adaptive, drawing, generate
from sfumato.likelihood import LikelihoodOptions
from sfumato.model_folder import Sampled, TableKey
from sfumato.recipes.diffusion import SamplingSection
from sfumato.sampling import adams, ancestral, grids, uniform
from sfumato.sampling.cuda_graph import Recorded
from sfumato.world import World

PROCESS = Process(VP(), LinearLogSNR(-16.0, 14.0))
TABLES = {"adams": adams(PROCESS, grids.angle(PROCESS, 6)), "ancestral": ancestral(PROCESS, uniform(6))}
SPEC = DataSpec(
    layout=LAYOUTS["vector"],
    shape=(2,),
    dtype="float32",
    transform=Affine((1.0, -40.0), (2.0, 30.0)),
    channels=(),
    second_moment=1.5,
    diameter=8.0,
    class_names=(),
    class_counts=(),
    count=10,
    fingerprint="0" * 64,
    source="points",
)
MEANS = torch.tensor([[1.2, -0.4], [-1.0, 0.8], [0.1, 1.9]], dtype=torch.float64)
MIXTURE = GaussianMixture.isotropic(MEANS, 0.35)
EXACT = [ExactDenoiser(PROCESS, GaussianMixture.isotropic(MEANS[k : k + 1], 0.3)) for k in range(3)]
CLASSES = torch.tensor([0, 2, 1, 1, 0, 2, 2, 0, 1, 0, 2])
COND, COUNT, BATCH = Condition(classes=CLASSES), 11, 4  # two batches and a rest


class ByClass(Denoiser):
    """A Gaussian of its own for each class; as strict as a network about the number of rows."""

    process = PROCESS

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        assert cond is not None
        assert cond.classes is not None
        assert len(cond) == len(x_t)
        self.seen.append(len(x_t))
        chosen = cond.classes, torch.arange(len(x_t))
        found = [exact(x_t, t) for exact in EXACT]
        return Prediction(*(torch.stack([getattr(p, name) for p in found])[chosen] for name in ("x_0", "eps")))


def one(i: int) -> Condition:
    return COND.rows(slice(i, i + 1))


# ------------------------------------------------------------------------------------------ conditions, row by row


@pytest.mark.parametrize("method", [*TABLES.values(), Adaptive(1e-5)], ids=[*TABLES, "adaptive"])
def test_generate_gives_each_sample_its_own_condition(method: object) -> None:
    denoiser = ByClass()
    whole = generate(denoiser, method, COUNT, (2,), 5, cond=COND, batch=BATCH, first=3)
    assert set(denoiser.seen) == {4, 3}
    singles = [generate(ByClass(), method, 1, (2,), 5, cond=one(i), first=3 + i) for i in range(COUNT)]
    torch.testing.assert_close(whole, torch.cat(singles), rtol=1e-4, atol=1e-4)
    # A class shows: its samples lie 0.3 around its own mean.
    assert float((whole - MEANS[CLASSES]).norm(dim=1).max()) < 1.5
    assert float((whole - MEANS[(CLASSES + 1) % 3]).norm(dim=1).min()) > 0.3


def test_a_model_gives_each_sample_its_own_condition() -> None:
    model = Model(ByClass(), SPEC)
    for settings in ({"sampler": "ancestral", "steps": 8}, {"steps": 6}, {"tolerance": 1e-4}):
        whole = model.sample(COUNT, seed=2, batch=BATCH, cond=COND, **settings)
        singles = [model.sample(1, seed=2, first=i, cond=one(i), **settings) for i in range(COUNT)]
        torch.testing.assert_close(whole, torch.cat(singles), rtol=1e-4, atol=2e-3)
        assert not torch.allclose(
            whole, model.sample(COUNT, seed=2, cond=COND.rows(torch.arange(10, -1, -1)), **settings)
        )


def test_processes_take_their_own_rows_of_the_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three processes, played in turn: what it makes is what a single process makes of these rows."""
    whole = generate(ByClass(), TABLES["adams"], COUNT, (2,), 1, cond=COND)
    made: dict[int, Tensor] = {}
    monkeypatch.setattr(World, "gather", lambda world, rows, count: made.setdefault(world.rows(count)[0], rows))
    for rank in range(3):
        generate(ByClass(), TABLES["adams"], COUNT, (2,), 1, cond=COND, batch=BATCH, world=World(rank, 3))
    torch.testing.assert_close(torch.cat([made[first] for first in sorted(made)]), whole, rtol=1e-5, atol=1e-5)


def nats(x_0: Tensor, classes: Tensor) -> Tensor:
    """-log p of each sample under the Gaussian of its class, in the data's units."""
    squares = ((x_0 - MEANS[classes]) / 0.3).square().sum(1)
    return math.log(2 * math.pi * 0.09) + squares / 2 + math.log(2.0 * 30.0)


@pytest.mark.parametrize("options", [LikelihoodOptions(None, 150), LikelihoodOptions(200)], ids=["walk", "estimate"])
def test_the_bound_of_each_sample_is_under_its_own_condition(options: LikelihoodOptions) -> None:
    model, x_0 = Model(ByClass(), SPEC), MEANS[CLASSES].float() + 0.1
    found = model.bound(x_0, replace(options, batch=BATCH, seed=3, variance=1.0), cond=COND)
    # With the exact posterior mean, the bound is the likelihood but for the width of its steps.
    off = found.nats - nats(x_0, CLASSES)
    assert bool((off.abs() < 5 * found.variance.sqrt() + 0.3).all())
    assert float(off.mean().abs()) < 0.5
    assert float(nats(x_0, (CLASSES + 1) % 3).min()) > float(found.nats.max()) + 3


def test_the_flow_of_each_sample_is_under_its_own_condition() -> None:
    model, x_0 = Model(ByClass(), SPEC), MEANS[CLASSES].float() + 0.1
    options = LikelihoodOptions(tolerance=1e-5, batch=BATCH)
    found = model.flow(x_0, options, cond=COND).nats
    torch.testing.assert_close(found, nats(x_0, CLASSES), rtol=0, atol=2e-3)
    singles = [model.flow(x_0[i : i + 1], options, cond=one(i)).nats for i in range(COUNT)]
    torch.testing.assert_close(found, torch.cat(singles), rtol=1e-4, atol=1e-4)


def test_scores_pass_the_conditions_of_all_three_sets() -> None:
    model = Model(ByClass(), SPEC)
    values = SPEC.decode(MEANS[CLASSES].float() + 0.1)
    sets = [DataToScore(values, name, COND) for name in ("these", "those", "training data")]
    found = score(model, sets[0], LikelihoodOptions(batch=BATCH), against=sets[1], reference=sets[2])
    bound = model.bound(SPEC.encode(values), LikelihoodOptions(batch=BATCH), cond=COND)
    torch.testing.assert_close(found.bound.bits, bound.bits)
    assert found.flow is not None
    assert set(found.scores) == {"bits", "typicality", "norms"}
    assert found.auroc["norms"].value == pytest.approx(0.5)  # the same samples and conditions
    turned = DataToScore(values, "turned", Condition(classes=(CLASSES + 1) % 3))
    assert score(model, turned, LikelihoodOptions(batch=BATCH), flow=False).bits_per_dim > found.bits_per_dim + 1


def test_a_condition_of_another_length_is_refused() -> None:
    model = Model(ByClass(), SPEC)
    for call in (
        lambda: model.sample(3, cond=COND),
        lambda: generate(ByClass(), TABLES["adams"], 3, (2,), cond=COND),
        lambda: model.bound(torch.zeros(3, 2), cond=COND),
        lambda: model.flow(torch.zeros(3, 2), cond=COND),
        lambda: DataToScore(torch.zeros(3, 2), "these", COND),
    ):
        with pytest.raises(InputError, match=r"^cond: has 11 rows for 3 samples; give one row per sample$"):
            call()


# ---------------------------------------------------------------------------------------- any denoiser is a model


@pytest.fixture(scope="module")
def oracle() -> Model:
    return Model(ExactDenoiser(PROCESS, MIXTURE), SPEC)


def test_an_oracle_samples_its_own_distribution(oracle: Model) -> None:
    count = 4000
    x = SPEC.encode(oracle.sample(count, seed=1, steps=20)).double()
    assert oracle.num_parameters == 0
    mean, second = MEANS.mean(0), (MEANS[:, :, None] * MEANS[:, None]).mean(0) + 0.35**2 * torch.eye(2)
    spread = (second - mean[:, None] * mean).diag().sqrt()
    assert float(((x.mean(0) - mean).abs() / (spread / count**0.5)).max()) < 4
    torch.testing.assert_close(x.T @ x / count, second, rtol=0, atol=0.12)  # 4 standard errors of a product


def test_the_likelihoods_of_an_oracle_are_its_density_in_the_datas_units(oracle: Model) -> None:
    x_0 = MEANS[[0, 1, 2, 2, 0, 1, 1, 0, 2]].float() + 0.2 * torch.randn(
        9, 2, generator=torch.Generator().manual_seed(0)
    )
    densities = torch.distributions.MultivariateNormal(MEANS, 0.35**2 * torch.eye(2, dtype=torch.float64))
    log_p = densities.log_prob(x_0.double()[:, None]).logsumexp(1) - math.log(3) - math.log(2.0 * 30.0)
    flow = oracle.flow(x_0, LikelihoodOptions(tolerance=1e-6))
    torch.testing.assert_close(flow.nats, -log_p, rtol=0, atol=2e-3)
    bound = oracle.bound(x_0, LikelihoodOptions(evaluations=400, variance=1.0))
    error = bound.variance.sum().sqrt() / 9
    gap = float((bound.nats + log_p).mean())
    assert -4 * float(error) < gap < 0.5 + 4 * float(error)


def test_a_model_without_a_recipe_has_defaults_and_cannot_be_saved(oracle: Model, tmp_path: Path) -> None:
    plan = oracle.plan()
    assert (plan.sampler, plan.evaluations) == ("auto", 20)
    other = Model(oracle.denoiser, SPEC, sampling=SamplingSection(sampler="heun", steps=9))
    assert (other.plan().method, other.plan().evaluations) == ("heun(churn=0)", 9)
    assert torch.equal(other.sample(3, seed=1), oracle.sample(3, seed=1, sampler="heun", steps=9))
    assert all(map(oracle.can, ("sampler", "bound", "flow", "noise")))
    with pytest.raises(InputError, match=r"^ExactDenoiser: has no recipe, so it cannot be trained or saved") as caught:
        oracle.save_pretrained(tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_drawing_leaves_every_module_in_the_mode_it_had() -> None:
    inner = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    denoiser = ByClass()
    denoiser.inner = inner.eval()
    wrapped = Clamped(denoiser, -3.0, 3.0)  # a wrapper begins in training mode
    denoiser.train(False)
    with drawing(wrapped):
        assert not any(module.training for module in wrapped.modules())
        assert not torch.is_grad_enabled()
    assert wrapped.training
    assert not any(module.training for module in denoiser.modules())


# ----------------------------------------------------------------------------------------------- fitted tables


def test_tables_are_used_for_what_they_were_fitted_to() -> None:
    plain, classed, guided = (adams(PROCESS, grids.angle(PROCESS, 6), order=order) for order in (2, 3, 4))
    fitted = {
        TableKey(6): plain,
        TableKey(6, Sampled("classes")): classed,
        TableKey(6, Sampled("classes", "classifier-free 2")): guided,
    }
    model = Model(ByClass(), SPEC, fitted=fitted)
    assert model.plan("auto", 6).table is plain
    assert model.tableau("auto", 6) is plain
    assert model.plan("auto", 6, cond=COND).table is classed
    assert model.plan("auto", 6, cond=Condition(vector=torch.zeros(1, 2))).table not in (plain, classed, guided)
    assert len({key.file for key in fitted}) == 3
    assert TableKey(6).file == "sampler-6.json"


def test_a_recording_gets_the_condition_of_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the condition is an input of the graph; here the graph is the function itself, run on its inputs."""
    recorded: list[tuple[str, ...]] = []

    def record(function: object, inputs: tuple[Tensor, ...]) -> object:
        recorded.append(tuple(x.dtype.__repr__() for x in inputs))
        output = function(*inputs)  # type: ignore[operator]
        return lambda: output.copy_(function(*inputs)), output  # type: ignore[operator]

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # a build without CUDA has none
    monkeypatch.setattr(generate_module, "Recorded", partial(Recorded, record=record))
    denoiser, table = ByClass(), TABLES["adams"]

    def run(keys: Tensor, cond: Condition | None, first: int, check: bool) -> Tensor:
        noise = SeededNoise(keys)
        return sampling.run(denoiser, table, noise(0, torch.empty(len(keys), 2)), noise=noise, cond=cond)

    draw = generate_module._recorded(run, torch.device("cpu"))
    for i in range(0, 8, 4):
        noise = SeededNoise.samples(3, 4, i)
        for rows in (COND.rows(slice(i, i + 4)), COND.rows(torch.tensor([7, 3, 1, 0]))):
            torch.testing.assert_close(draw(i, noise, rows), run(noise.keys, rows, i, True))
    assert recorded == [("torch.int64", "torch.int64")]
