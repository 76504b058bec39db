"""Recipes whose parts contradict each other, and what a recipe fills in from the data."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from sfumato import core, data, objectives, recipes
from sfumato.data import LAYOUTS, Affine, DataSpec
from sfumato.errors import InputError
from sfumato.objectives import weights
from sfumato.recipes import DiffusionRecipe


def spec(**changes: Any) -> DataSpec:
    fields: dict[str, Any] = {
        "layout": LAYOUTS["image"],
        "shape": (1, 8, 8),
        "dtype": "float32",
        "transform": Affine((0.0,), (1.0,)),
        "channels": (),
        "second_moment": 0.49,
        "diameter": 12.3456,
        "class_names": (),
        "class_counts": (),
        "count": 10,
        "fingerprint": "0" * 64,
        "source": "test",
    }
    return DataSpec(**(fields | changes))


VECTOR = spec(layout=LAYOUTS["vector"], shape=(2,), transform=Affine((0.0, 0.0), (1.0, 1.0)))


def loss(name: str, *overrides: str, of: DataSpec | None = None) -> Any:
    return recipes.read(name, overrides).build_loss(of or spec())


HYBRID = ["variance=learned", "objective.kind=hybrid"]


@pytest.mark.parametrize(
    ("name", "overrides", "key", "parts"),
    [
        ("vdm", ["objective.kind=denoising"], "objective.kind", ["learned-logsnr", "bound"]),
        ("ddpm", ["objective.kind=hybrid"], "objective.kind", ["hybrid", "variance=learned"]),
        ("ddpm", ["variance=learned"], "variance", ["objective.kind=hybrid or bound"]),
        ("vp-sde", [*HYBRID], "variance", ["chain"]),
        (
            "ddpm",
            ["objective.kind=bound", "objective.times=uniform"],
            "objective.times.kind",
            ["'uniform'", "with objective.kind=bound", "'auto', 'loss-aware'"],
        ),
        ("improved-ddpm", ["objective.times=uniform"], "objective.times.kind", ["objective.kind=hybrid"]),
        (
            "vp-sde",
            ["objective.kind=bound", "objective.times=log-normal"],
            "objective.times.kind",
            ["objective.kind=bound"],
        ),
        ("improved-ddpm", ["objective.times=log-normal"], "objective.times.kind", ["objective.kind=hybrid"]),
        ("flow", ["objective.pairing=optimal-transport", "data.noise=z"], "objective.pairing", ["data.noise"]),
        ("flow", ["training.augment=0.1", "data.noise=z"], "training.augment", ["training.augment=0"]),
        ("ddpm", ["training.augment=0.1", "objective.kind=bound"], "training.augment", ["objective.kind=denoising"]),
        ("ddpm", ["training.augment=0.1", "objective.kind=sliced"], "training.augment", ["training.augment=0"]),
        ("ddpm", ["objective.form=x_0"], "objective.form", ["objective.kind=bound"]),
        ("ddpm", ["objective.kind=bound", "objective.weight=min-snr"], "objective.weight", ["bound", "denoising"]),
        ("ddpm", ["objective.kind=implicit", "objective.weight=elbo"], "objective.weight", ["implicit"]),
        ("improved-ddpm", ["objective.weight=p2"], "objective.weight", ["hybrid"]),
        ("ddpm", ["objective.kind=bound", "objective.uncertainty=learned"], "objective.uncertainty", ["denoising"]),
        ("ddpm", ["objective.kind=sliced", "objective.pairing=optimal-transport"], "objective.pairing", ["denoising"]),
        ("ddpm", ["objective.probes=2"], "objective.probes", ["implicit or sliced"]),
        (
            "ddpm",
            ["objective.log_ratio_mean=0.3"],
            "objective.times.log_ratio_mean",
            ["objective.times.kind=log-normal"],
        ),
        ("ddpm", ["objective.log_ratio_std=0.3"], "objective.times.log_ratio_std", ["objective.times.kind=log-normal"]),
        ("ddpm", ["objective.bound_weight=0.1"], "objective.bound_weight", ["objective.kind=denoising", "hybrid"]),
        (
            "ddpm",
            ["objective.uncertainty=learned", "objective.times=loss-aware"],
            "objective.uncertainty",
            ["'learned'"],
        ),
        ("vdm", ["objective.log_ratio_mean=1"], "objective.times.log_ratio_mean", ["denoising, implicit or sliced"]),
        ("vdm", ["data.noise=z"], "data.noise", ["bound", "denoising"]),
        ("edm", ["objective.log_ratio_mean=40"], "objective.times.log_ratio_mean", ["hardly one in a million"]),
    ],
)
def test_what_does_not_go_together_is_one_line_that_names_the_key(
    name: str, overrides: list[str], key: str, parts: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        loss(name, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert message.removeprefix("recipe: ").startswith(f"{key}: ")
    assert all(part in message for part in parts)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["objective.weight=heavy"], ["objective.weight.kind", "'heavy'", "'min-snr'", "'edm'"]),
        (["objective.weight.most=3"], ["objective.weight.most", "objective.weight.kind=simple", "no such setting"]),
        (["objective.weight=min-snr", "objective.weight.most=0"], ["objective.weight.most", "greater than 0"]),
        (["objective.weight=p2", "objective.weight.power=-1"], ["objective.weight.power", "-1"]),
        (["process.schedule=geometric-sigmas", "process.schedule.levels=1"], ["process.schedule.levels", "1"]),
        (["training.augment=1.5"], ["training.augment", "1.5"]),
        (["sigma_data=0"], ["sigma_data", "0"]),
        (["objective.times=lognormal"], ["objective.times.kind", "'lognormal'", "'log-normal'"]),
        (["objective.kind=sliced", "objective.probes=0"], ["objective.probes: 0 is not allowed"]),
    ],
)
def test_settings_of_the_wrong_kind_are_one_line(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        recipes.read("ddpm", overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts)


# --- from the data ---------------------------------------------------------------------------------------------------


def test_ncsns_sigmas_come_from_the_data() -> None:
    recipe = recipes.read("ncsn").resolved(spec())
    schedule = recipe.process.schedule.model_dump()
    assert schedule["sigma_max"] == 12.346  # the diameter, to three digits
    # 64 dimensions: sqrt(128) (r - 1) = 3 r, r = 1.3609; ln(1234.6) / ln(1.3609) = 23.1 ratios.
    r = math.sqrt(128) / (math.sqrt(128) - 3)
    assert schedule["levels"] == 1 + math.ceil(math.log(1234.6) / math.log(r)) == 25
    sigma = recipe.build_process().level(torch.arange(1, 26).double() / 25).sigma
    torch.testing.assert_close(sigma[[0, -1]], torch.tensor([0.01, 12.346], dtype=torch.float64), rtol=1e-9, atol=0)
    ratios = sigma[1:] / sigma[:-1]
    assert float(ratios.max()) <= r
    assert float(ratios.max()) == pytest.approx(float(ratios.min()), rel=1e-9)
    assert recipe.resolved(spec()) == recipe
    times = recipe.build_loss(spec()).times
    assert times == objectives.ChainTimes(25)


def test_ncsns_levels_for_points_have_ncsns_own_ratio() -> None:
    schedule = recipes.read("ncsn", ["process.schedule.sigma_max=1"]).resolved(VECTOR).process.schedule.model_dump()
    assert schedule["sigma_max"] == 1
    assert schedule["levels"] == 11  # 100 = (5/3)^9.02


def test_settings_that_are_given_are_kept() -> None:
    overrides = ["process.schedule.sigma_max=3", "process.schedule.levels=7", "process.schedule.sigma_min=0.5"]
    schedule = recipes.read("ncsn", overrides).resolved(spec()).process.schedule.model_dump()
    assert (schedule["sigma_min"], schedule["sigma_max"], schedule["levels"]) == (0.5, 3, 7)


def test_data_in_one_place_still_has_a_process() -> None:
    still = spec(diameter=0.0, second_moment=0.0)
    for name in ("ncsn", "ve-sde"):
        recipe = recipes.read(name).resolved(still)
        assert recipe.process.schedule.model_dump()["sigma_max"] == 0.02
        recipe.build_process()
    assert recipes.read("edm").resolved(still).sigma_data == 0.001


def test_the_ve_sdes_largest_sigma_is_the_diameter() -> None:
    process = recipes.read("ve-sde").resolved(spec()).build_process()
    assert float(process.level(1.0).sigma) == pytest.approx(12.346, rel=1e-9)
    assert recipes.read("edm").resolved(spec()).process.schedule.model_dump()["sigma_max"] == 80


@pytest.mark.parametrize("name", ["ncsn", "ve-sde"])
def test_an_unresolved_recipe_has_no_process_yet(name: str) -> None:
    with pytest.raises(InputError, match=r"^process.schedule.sigma_max: null .*give a number$"):
        recipes.read(name).build_process()


def test_edms_sigma_data_is_the_datas_own_everywhere() -> None:
    recipe = recipes.read("edm").resolved(spec())
    assert recipe.sigma_data == 0.7
    denoiser = recipe.build(spec())
    assert denoiser.sigma_data == 0.7
    assert denoiser.target == core.EDM(0.7)
    level = recipe.build_process().level(torch.tensor([0.2, 0.8], dtype=torch.float64))
    built = recipe.build_loss(spec())
    got = built.weight(level, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(got, (level.sigma**2 + 0.7**2) / 0.7**2, rtol=1e-12, atol=0)
    assert isinstance(built.times, objectives.LogNormalTimes)
    assert (built.times.mean, built.times.std) == (-1.2, 1.2)
    assert recipes.read("edm", ["sigma_data=0.5"]).resolved(spec()).sigma_data == 0.5
    # The same from a recipe that was not resolved before.
    unresolved = recipes.read("edm")
    assert unresolved.build(spec()).target == core.EDM(0.7)
    again = unresolved.build_loss(spec()).weight(level, torch.ones(2, dtype=torch.float64))
    assert torch.equal(again, got)


@pytest.mark.parametrize(
    ("of", "kept", "batch"),
    [(spec(), 0.12, 64), (VECTOR, 0.0, 256), (spec(layout=LAYOUTS["signal"], shape=(2, 64)), 0.0, 64)],
)
def test_images_alone_are_augmented_and_vectors_come_in_larger_batches(of: DataSpec, kept: float, batch: int) -> None:
    recipe = recipes.read("edm")
    assert (recipe.training.augment, recipe.training.batch) == (0.12, None)
    numbers = {"augment": kept, "batch": batch, "learning_rate": 1e-3, "warmup": 5_000, "cooldown": 0.0}
    assert recipe.resolved(of).training == recipe.training.model_copy(update=numbers)
    assert recipes.read("edm", ["training.batch=7"]).resolved(of).training.batch == 7
    recipe.build_loss(of)


def test_points_with_an_objective_that_takes_no_moved_images_need_not_say_so() -> None:
    loss("edm", "objective.kind=sliced", of=VECTOR)
    with pytest.raises(InputError, match=r"^training.augment"):
        loss("edm", "objective.kind=sliced")


# --- what is built ---------------------------------------------------------------------------------------------------


LEVEL = core.Process(core.VP(), core.Cosine()).level(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
RATE = torch.tensor([3.0, 4.0, 5.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], torch.ones(3, dtype=torch.float64)),
        (["objective.weight=elbo"], RATE / 2),
        (["objective.weight=likelihood"], RATE),
        (["objective.weight=min-snr"], weights.min_snr(LEVEL, RATE, 5.0)),
        (["objective.weight=min-snr", "objective.weight.most=2"], weights.min_snr(LEVEL, RATE, 2.0)),
        (["objective.weight=sigmoid", "objective.weight.bias=-1"], weights.sigmoid(LEVEL, RATE, -1.0)),
        (["objective.weight=p2"], weights.p2(LEVEL, RATE, 1.0, 1.0)),
        (
            ["objective.weight=p2", "objective.weight.offset=0.5", "objective.weight.power=2"],
            weights.p2(LEVEL, RATE, 0.5, 2.0),
        ),
        (["objective.weight=flow"], weights.flow(LEVEL, RATE)),
        (["objective.weight=edm", "sigma_data=0.3"], weights.edm(LEVEL, RATE, 0.3)),
    ],
)
def test_weights_by_name_with_their_settings(settings: list[str], expected: torch.Tensor) -> None:
    torch.testing.assert_close(loss("ddpm", *settings).weight(LEVEL, RATE), expected, rtol=0, atol=0)


def test_the_kind_alone_is_a_shorthand() -> None:
    short = recipes.read("ddpm", ["objective.weight=min-snr"])
    assert short == recipes.read("ddpm", ["objective.weight.kind=min-snr"])
    assert short == recipes.read("ddpm", ["objective.weight={kind: min-snr, most: 5.0}"])
    assert DiffusionRecipe.model_validate_json(short.model_dump_json()) == short


def test_objectives_by_name() -> None:
    assert isinstance(loss("ddpm", "objective.uncertainty=learned"), objectives.UncertaintyWeighted)
    assert isinstance(loss("ddpm", "objective.uncertainty=learned").objective, objectives.DenoisingLoss)
    assert isinstance(loss("ddpm", "objective.kind=sliced", "objective.probes=3"), objectives.SlicedScoreMatching)
    assert loss("ddpm", "objective.kind=sliced", "objective.probes=3").projections == 3
    assert loss("ddpm", "objective.kind=implicit").probes == 1  # 64 dimensions
    assert loss("ddpm", "objective.kind=implicit", of=VECTOR).probes is None
    assert loss("ddpm", "objective.kind=implicit", "objective.probes=2", of=VECTOR).probes == 2
    times = loss("flow", "objective.log_ratio_mean=0.4", "objective.log_ratio_std=2").times
    assert (times.mean, times.std) == (0.4, 2.0)


def test_pairs_are_dealt_out_where_the_recipe_says() -> None:
    assert not recipes.read("flow").trained_on_pairs
    paired = recipes.read("flow", ["objective.pairing=optimal-transport"])
    assert paired.trained_on_pairs
    assert recipes.read("flow", ["data.noise=z"]).trained_on_pairs
    assert recipes.read("flow").build_loss(VECTOR).pairing is None
    learned = recipes.read("flow", ["objective.pairing=optimal-transport", "objective.uncertainty=learned"])
    for recipe in (paired, learned):
        assert recipe.build_loss(VECTOR).pairing is objectives.optimal_transport


def test_a_clock_from_data_is_entered_where_data_begins_to_show() -> None:
    grid = replace(spec(), dtype="uint8", transform=Affine((0.0,), (1.0,), -1.0, 1.0, 256))
    first = loss("vp-sde", of=grid).times.first
    process = recipes.read("vp-sde").build_process()
    assert float(process.level(first).ratio) == pytest.approx(2 / 255 / 12, rel=1e-6)
    assert loss("ve-sde").times == objectives.UniformTimes(0.0)
    assert float(process.level(loss("vp-sde").times.first).ratio) == pytest.approx(0.002, rel=1e-6)
    assert loss("flow").times.first == pytest.approx(0.002 / 1.002, rel=1e-6)


@pytest.mark.parametrize(
    ("label", "embedding"), [("index", "sinusoidal"), ("logsnr", "sinusoidal"), ("log-ratio", "fourier")]
)
@pytest.mark.parametrize("of", [spec(), VECTOR], ids=["image", "vector"])
def test_the_embedding_suits_the_label(label: str, embedding: str, of: DataSpec) -> None:
    network = recipes.read("ddpm", [f"label={label}"]).resolved(of).network
    assert network.model_dump()["embedding"] == embedding
    asked = recipes.read("ddpm", [f"label={label}", "network.embedding=fourier"]).resolved(of).network
    assert asked.model_dump()["embedding"] == "fourier"


def test_presets_sample_as_their_papers_do() -> None:
    samplers = {name: recipes.read(name).sampling.sampler for name in recipes.presets() if name != "mhvae"}
    assert {name: samplers[name] for name in ("ncsn", "ve-sde", "vp-sde", "subvp-sde", "edm")} == {
        "ncsn": "langevin",
        "ve-sde": "pc",
        "vp-sde": "pc",
        "subvp-sde": "pc",
        "edm": "auto",  # not the paper's: see the preset
    }
    assert data.DataOptions() == recipes.read("edm").data.options()
