"""The plan of a new run with a budget in seconds: measure the pace of its network, and fill in the recipe's numbers."""

import json
import math
import time

import torch

from sfumato import kinds
from sfumato.data import Dataset, Subset, split
from sfumato.recipes import Recipe, budget
from sfumato.recipes.reading import validate
from sfumato.reporting import SILENT, Reporter, duration
from sfumato.training import Compute, Engine
from sfumato.world import ALONE, World

from .settings import Goal

MEASURING = 0.03  # of the budget, at most
LONGEST = 3.0  # seconds of it for each network
TRIALS = 5
FEW, MANY = 4, 32  # images of the steps that are timed
GOOD_PASSES = 20
COARSE = 1_500  # images after which samples of MNIST are strokes


def planned(
    recipe: Recipe,
    dataset: Dataset,
    goal: Goal,
    device: torch.device,
    reporter: Reporter = SILENT,
    world: World = ALONE,
) -> Recipe:
    """The recipe with the numbers that it leaves open chosen for this data, device and budget; all processes call it.

    A goal in steps leaves the recipe as it is.

    Raises:
        InputError: the recipe cannot be built for this data.
    """
    if goal.seconds is None or len(dataset) < 2:
        return recipe
    text = ""
    with world.raise_together():
        if world.is_main:
            plan = _plan(recipe, dataset, goal.seconds, device, world.size)
            reporter.info(expectation(plan, goal.seconds))
            text = json.dumps(plan.recipe.model_dump(mode="json"))
    return validate(json.loads(world.gather_text(text)[0]), where="recipe")


def expectation(plan: budget.Plan, seconds: float | int) -> str:
    """What can be expected of a budget, in one line."""
    passes = plan.passes
    much = f"{passes:,.0f}" if passes >= 10 else f"{passes:.2g}"
    text = f"about {much} passes over the data in this budget"
    if passes >= GOOD_PASSES:
        return text
    worth = "detail" if passes >= 5 else "coarse shapes" if plan.images >= COARSE else "little more than noise"
    return f"{text}: expect {worth}; {duration(seconds * GOOD_PASSES / passes)} would be {GOOD_PASSES} passes"


def _plan(recipe: Recipe, dataset: Dataset, seconds: float | int, device: torch.device, processes: int) -> budget.Plan:
    count = len(split(len(dataset), recipe.training.held_out, recipe.training.seed)[0])
    values = count * math.prod(dataset.spec.model_shape)
    best = None
    for candidate in budget.sizes(recipe, dataset.spec):
        pace, parameters = measured(candidate, dataset, device, min(MEASURING * seconds, LONGEST), processes)
        plan = budget.plan(candidate, dataset.spec, count, pace, seconds)
        if best is not None and not budget.enough(plan.images, parameters, values):
            break
        best = plan
        if not budget.enough(plan.images, 2 * parameters, values):  # the next is about twice as large
            break
    assert best is not None
    return best


def measured(
    recipe: Recipe, dataset: Dataset, device: torch.device, seconds: float | int, processes: int = 1
) -> tuple[budget.Pace, int]:
    """(The pace of the recipe's training steps on this machine, the number of parameters).

    Steps of few and of more images are made on networks that are thrown away.

    Arguments:
        recipe: a recipe with one size of network.
        dataset: the data.
        device: where training will be.
        seconds: that measuring may take, but for the first steps.
        processes: that will share each batch.
    """
    started = time.perf_counter()
    training, _ = split(len(dataset), recipe.training.held_out, recipe.training.seed)
    source = Subset(dataset.samples(device), training)
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)  # as training begins; ``autotune`` tries more
    try:
        few, parameters = _step_time(recipe, dataset, source, FEW, started + 0.4 * seconds)
        left = started + seconds - time.perf_counter()
        images = min(MANY, round(left / (few / FEW) / 2))  # a step that warms up, and one that counts
        if images < 2 * FEW:
            pace = budget.Pace(0.0, few / FEW)
        else:
            many, _ = _step_time(recipe, dataset, source, images, started + seconds)
            pace = budget.Pace.through((FEW, few), (images, many))
    finally:
        torch.set_num_threads(before)
    return budget.Pace(pace.overhead, pace.per_image / processes), parameters


def _step_time(recipe: Recipe, dataset: Dataset, source: Subset, batch: int, until: float) -> tuple[float, int]:
    """(Least seconds of a few steps, which end at ``until``, the number of parameters)."""
    training = recipe.training.model_copy(update={"batch": batch})
    with torch.random.fork_rng(devices=[]):
        model = kinds.fresh(recipe.model_copy(update={"training": training}), dataset.spec)
    engine = Engine(model, source, source.index, Compute(), ALONE)
    engine.step()
    least = float("inf")
    for _ in range(TRIALS):
        started = time.perf_counter()
        engine.step()
        now = time.perf_counter()
        least = min(least, now - started)
        if now + least > until:
            break
    return least, model.num_parameters
