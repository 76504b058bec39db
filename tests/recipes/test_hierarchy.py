import math
from dataclasses import replace

import pytest
import torch

from sfumato import data, objectives, recipes
from sfumato.core import ValueGrid
from sfumato.errors import InputError
from sfumato.hierarchical import LearnedPrior, LinearEncoder, MarkovianHVAE, StandardPrior
from sfumato.recipes import DiffusionRecipe, HierarchyRecipe

TINY = ["hierarchy.hidden=8", "hierarchy.depth=1"]
LINEAR = ["hierarchy.same_dimension=true", "hierarchy.linear_encoder=true"]


@pytest.fixture(scope="module")
def digits() -> data.DataSpec:
    return data.load("digits", recipes.read("mhvae").data.options()).spec


def built(spec: data.DataSpec, *settings: str) -> MarkovianHVAE:
    module = recipes.read("mhvae", [*TINY, *settings]).build(spec)
    assert isinstance(module, MarkovianHVAE)
    return module


def test_a_recipe_says_what_is_used_and_nothing_else(digits: data.DataSpec) -> None:
    ours, theirs = recipes.read("mhvae"), recipes.read("ddpm")
    assert set(ours.model_dump()) == {"version", "name", "hierarchy", "data", "training"}
    of_diffusion = {"process", "target", "objective", "label", "sigma_data", "variance", "network", "conditioning"}
    assert set(theirs.model_dump()) == {"version", "name", "data", "training", "sampling", "base", *of_diffusion}
    for recipe, kind in ((ours, HierarchyRecipe), (ours.resolved(digits), HierarchyRecipe), (theirs, DiffusionRecipe)):
        assert type(recipe) is kind
        assert kind.model_validate_json(recipe.model_dump_json()) == recipe
    assert ours.resolved(digits).resolved(digits) == ours.resolved(digits)


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("process.schedule=cosine", "process"),
        ("target=noise", "target"),  # the default, and still of no use
        ("network.width=8", "network"),
        ("objective.kind=bound", "objective"),
        ("variance=learned", "variance"),
        ("sampling.steps=5", "sampling"),
    ],
)
def test_what_a_hierarchy_has_not_is_refused(setting: str, part: str) -> None:
    with pytest.raises(InputError, match=rf"^recipe: {part}: a hierarchical VAE has no such section; leave it out"):
        recipes.read("mhvae", [setting])


def test_a_diffusion_model_is_not_made_a_hierarchy_in_passing() -> None:
    with pytest.raises(
        InputError, match=r"^recipe: process: a hierarchical VAE has no such section; .*leave out hierarchy"
    ):
        recipes.read("ddpm", ["hierarchy.levels=3"])


@pytest.mark.parametrize(
    ("shape", "settings", "widths"),
    [
        ((1, 8, 8), ["hierarchy.levels=3"], [48, 32, 16]),
        ((1, 8, 8), ["hierarchy.levels=1"], [32]),
        ((2,), ["hierarchy.levels=4"], [2, 2, 1, 1]),
        ((1,), ["hierarchy.levels=2"], [1, 1]),
        ((3, 32, 32), ["hierarchy.levels=1"], [128]),
        ((1, 8, 8), ["hierarchy.levels=2", "hierarchy.same_dimension=true"], [64, 64]),
        ((1, 8, 8), ["hierarchy.widths=[9, 4]"], [9, 4]),
    ],
)
def test_widths_come_from_the_data(
    digits: data.DataSpec, shape: tuple[int, ...], settings: list[str], widths: list[int]
) -> None:
    vector = len(shape) == 1
    eights = (8.0,) * (shape[0] if vector else 1)
    transform = data.Affine(eights, eights, 0.0, 16.0, 17)
    layout = data.LAYOUTS["vector" if vector else "image"]
    spec = replace(digits, layout=layout, shape=shape, channels=(), transform=transform)
    recipe = recipes.read("mhvae", settings).resolved(spec)
    assert isinstance(recipe, HierarchyRecipe)
    assert recipe.hierarchy.widths == widths
    assert recipe.hierarchy.levels == len(widths)


def test_settings_reach_the_model(digits: data.DataSpec) -> None:
    module = built(digits, "hierarchy.widths=[9, 4]")
    assert module.widths == (9, 4)
    assert module.generator.grid == ValueGrid(-1.0, 0.125, 17)  # the digits' values 0 .. 16 as -1 .. 1
    assert isinstance(module.prior, LearnedPrior)
    assert isinstance(built(digits, "hierarchy.standard_end=true").prior, StandardPrior)
    assert isinstance(recipes.read("mhvae").build_loss(digits), objectives.NegativeELBO)


def test_even_betas_let_the_log_snr_fall_evenly(digits: data.DataSpec) -> None:
    encoder = built(digits, *LINEAR, "hierarchy.levels=5").encoder
    assert isinstance(encoder, LinearEncoder)
    logsnr = (encoder.means.square() / encoder.variances).log()[1:]
    torch.testing.assert_close(logsnr, torch.tensor([7, 3.5, 0, -3.5, -7], dtype=torch.float64), atol=1e-9, rtol=0)
    cosine = built(digits, *LINEAR, "hierarchy.levels=5", "hierarchy.betas=cosine").encoder
    assert isinstance(cosine, LinearEncoder)
    # alpha^2 of Nichol & Dhariwal 2021, eq. 17, at the third of five levels.
    f = [math.cos((t / 5 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0, 3)]
    assert float(cosine.means[3] ** 2) == pytest.approx(f[1] / f[0], rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["hierarchy.levels=3", "hierarchy.widths=[4, 2]"], "hierarchy.levels: 3, but hierarchy.widths has 2"),
        (["hierarchy.linear_encoder=true"], "hierarchy.linear_encoder.*same_dimension=true"),
        (["hierarchy.betas=even"], "hierarchy.betas: a learned encoder has none"),
        (["hierarchy.levels=1", "hierarchy.widths=[4]", "hierarchy.same_dimension=true"], "hierarchy.widths.*64"),
        (["hierarchy.levels=0"], "hierarchy.levels: 0"),
        (["hierarchy.widths=[4, 0]"], r"hierarchy\.widths\.1: 0"),
        (["hierarchy.betas=linear"], "hierarchy.betas: 'linear'"),
        (["hierarchy.hiden=4"], "did you mean hierarchy.hidden"),
        (["hierarchy.hidden=7"], "hidden"),
    ],
)
def test_mistakes_are_one_line(digits: data.DataSpec, settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        recipes.read("mhvae", settings).build(digits)
    assert "\n" not in str(caught.value)
