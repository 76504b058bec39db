"""Which network a budget gets, with paces that are given instead of measured, and that measuring is short."""

import time
from dataclasses import dataclass, field

import pytest
import torch

from sfumato import recipes
from sfumato.data import DataOptions, Dataset, load
from sfumato.recipes import DiffusionRecipe, Recipe, budget
from sfumato.recipes.networks import AutoNetwork
from sfumato.reporting import Silent
from sfumato.runs import planning
from sfumato.runs.settings import Goal

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", DataOptions(limit=300))


@dataclass
class Heard(Silent):
    lines: list[str] = field(default_factory=list)

    def info(self, text: str = "") -> None:
        self.lines.append(text)


def with_pace(monkeypatch: pytest.MonkeyPatch, images_per_second: float) -> list[int]:
    """Measure nothing: the first size trains this fast, each further one takes twice as long. Returns what is asked."""
    asked: list[int] = []

    def measured(recipe: Recipe, *arguments: object) -> tuple[budget.Pace, int]:
        assert isinstance(recipe, DiffusionRecipe)
        assert isinstance(recipe.network, AutoNetwork)
        size = recipe.network.size
        assert size is not None
        asked.append(size)
        return budget.Pace(0.0, 2**size / images_per_second), 7_000 * 2**size

    monkeypatch.setattr(planning, "measured", measured)
    return asked


def size_for(dataset: Dataset, seconds: int) -> int | None:
    recipe = planning.planned(recipes.read("ddpm"), dataset, Goal(seconds=float(seconds)), CPU)
    assert isinstance(recipe, DiffusionRecipe)
    assert isinstance(recipe.network, AutoNetwork)
    return recipe.network.size


def test_a_longer_budget_gets_a_larger_network(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = with_pace(monkeypatch, 100)
    # Size k sees 85 seconds / 2^k images and needs 1,000 * 2^k: the second from 4,000 / 85 seconds on.
    assert [size_for(digits, seconds) for seconds in (10, 47, 48, 180, 190)] == [0, 0, 1, 1, 1]
    assert max(asked) == 1  # of 14,000 parameters; 28,000 would be more than the data has values
    asked.clear()
    size_for(digits, 10)
    assert asked == [0]  # no time is lost on what is out of reach


def test_a_goal_in_steps_and_a_given_network_stay(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipes.read("ddpm")
    assert planning.planned(recipe, digits, Goal(steps=10), CPU) is recipe
    given = recipes.read("ddpm", ["network.width=8"])
    monkeypatch.setattr(planning, "measured", lambda *arguments: (budget.Pace(0.0, 0.01), 10**9))
    planned = planning.planned(given, digits, Goal(seconds=60.0), CPU)
    assert isinstance(planned, DiffusionRecipe)
    assert isinstance(given, DiffusionRecipe)
    assert planned.network == given.network


@pytest.mark.parametrize(
    ("passes", "images", "text"),
    [
        (
            3.0,
            54_000,
            "about 3 passes over the data in this budget: expect coarse shapes; 40 min 0 s would be 20",
        ),
        (
            0.1,
            1_400,
            "about 0.1 passes over the data in this budget: expect little more than noise; 20 h 0 min would",
        ),
        (24.0, 9_000, "about 24 passes over the data in this budget"),
    ],
)
def test_it_says_what_to_expect(passes: float, images: int, text: str) -> None:
    assert planning.expectation(budget.Plan(recipes.read("ddpm"), images, passes), 360.0).startswith(text)


def test_the_pace_is_measured_and_the_line_is_said(digits: Dataset) -> None:
    heard, before = Heard(), torch.random.get_rng_state()
    started = time.perf_counter()
    planned = planning.planned(recipes.read("digits"), digits, Goal(seconds=20.0), CPU, heard)
    assert time.perf_counter() - started < 20  # far less; the machine may be busy
    assert planned.training.cooldown == budget.COOLDOWN
    assert (planned.training.batch, planned.training.learning_rate) == (64, 0.01)  # the recipe's
    assert len(heard.lines) == 1
    assert "passes over the data" in heard.lines[0]
    assert torch.equal(torch.random.get_rng_state(), before)  # the run's draws are what they were
