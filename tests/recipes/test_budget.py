"""The plan of a run with a budget: what it chooses, against the formulas, and what it leaves as it is."""

import math

import pytest

from sfumato import data, recipes
from sfumato.data import DataOptions, DataSpec
from sfumato.recipes import DiffusionRecipe, budget
from sfumato.recipes.budget import Pace
from sfumato.recipes.networks import AutoNetwork, UNetNetwork
from sfumato.recipes.networks.auto import SIZES, USUAL


@pytest.fixture(scope="module")
def digits() -> DataSpec:
    return data.load("digits", DataOptions()).spec


def test_the_pace_is_the_line_through_two_measurements() -> None:
    pace = Pace.through((4, 0.07), (32, 0.35))
    assert (pace.overhead, pace.per_image) == pytest.approx((0.03, 0.01))
    assert pace.images(1.9, 16) == pytest.approx(1.9 / 0.19 * 16)
    noisy = Pace.through((4, 0.5), (32, 0.4))  # something else ran during the first
    assert noisy.per_image > 0
    assert noisy.overhead + 32 * noisy.per_image == pytest.approx(0.4)


def test_the_batch_makes_the_time_to_a_loss_shortest(digits: DataSpec) -> None:
    pace = Pace(overhead=0.02, per_image=0.0005)
    chosen = budget.plan(recipes.read("ddpm"), digits, 10_000, pace, 3_600).recipe.training.batch
    images = 3_600 * budget.STEPPING / (0.02 / 16 + 0.0005)
    critical = budget.CRITICAL_BATCH * math.sqrt(images / budget.CRITICAL_IMAGES)
    # The time to a loss: (1 + B_c / B) steps of overhead + B * per_image.
    times = {b: (1 + critical / b) * (0.02 + 0.0005 * b) for b in (8, 16, 32, 64, 128, 256)}
    assert chosen == min(times, key=times.__getitem__)


def test_a_short_budget_has_a_small_batch_and_a_short_warmup(digits: DataSpec) -> None:
    pace = Pace(overhead=0.05, per_image=0.001)
    long, short = (budget.plan(recipes.read("ddpm"), digits, 10_000, pace, seconds) for seconds in (7_200, 15))
    assert long.recipe.training.batch > short.recipe.training.batch == 8
    assert short.images == pytest.approx(15 * budget.STEPPING / (0.05 / 8 + 0.001), rel=1e-3)
    assert short.passes == short.images / 10_000
    assert short.recipe.training.warmup == max(round(budget.WARMUP * short.images), 80)
    assert long.recipe.training.warmup > 5_000


def test_what_a_recipe_says_stays(digits: DataSpec) -> None:
    given = ["training.batch=24", "training.learning_rate=2e-3", "training.warmup=7", "training.cooldown=0"]
    recipe = recipes.read("vdm", [*given, "network.width=8"])
    assert budget.sizes(recipe, digits) == [recipe]
    assert budget.plan(recipe, digits, 1_000, Pace(0.1, 0.1), 60).recipe == recipe


@pytest.mark.parametrize("name", recipes.presets())
def test_only_how_a_preset_learns_is_planned(name: str, digits: DataSpec) -> None:
    recipe = recipes.read(name)
    planned = budget.plan(recipe, digits, 1_000, Pace(0.01, 0.001), 60).recipe
    assert None not in planned.training.model_dump().values()
    kept = {"training": recipe.training}
    assert planned.model_copy(update=kept) == recipe
    assert planned.resolved(digits).training == planned.training.resolved(digits)


def test_sizes_grow_and_the_usual_one_is_what_no_budget_gives(digits: DataSpec) -> None:
    recipe = recipes.read("ddpm")
    assert isinstance(recipe, DiffusionRecipe)
    found = budget.sizes(recipe, digits)
    networks = [each.resolved(digits).network for each in found if isinstance(each, DiffusionRecipe)]
    assert len(networks) == len(SIZES)
    assert networks[USUAL] == recipe.resolved(digits).network
    widths = [network.width for network in networks if isinstance(network, UNetNetwork)]
    assert widths == sorted(widths) == [size.width for size in SIZES]
    moons = data.load("moons", DataOptions(count=100)).spec
    assert budget.sizes(recipe, moons) == [recipe]


def test_a_network_must_be_paid_for_in_images() -> None:
    assert budget.enough(budget_images(1_000_000), 1_000_000, values=10**9)
    assert not budget.enough(budget_images(1_000_000) - 1, 1_000_000, values=10**9)
    assert not budget.enough(10**9, 1_000_000, values=999_999)  # it would learn the data by heart


def budget_images(parameters: int) -> int:
    return math.ceil(parameters / budget.PARAMETERS_PER_IMAGE)


def test_a_wide_network_learns_more_slowly(digits: DataSpec) -> None:
    def rate(network: AutoNetwork) -> float:
        recipe = DiffusionRecipe(network=network)
        found = budget.plan(recipe, digits, 1_000, Pace(0.0, 0.01), 600).recipe.training.learning_rate
        assert found is not None
        return found

    assert rate(AutoNetwork(width=16)) == pytest.approx(2 * rate(AutoNetwork(width=64)), rel=0.05)
