"""The numbers of a recipe that are chosen for a run with a budget in seconds, from the data and the measured pace.

What the recipe says stays. Presets differ in process, target and objective; how fast they learn is chosen here, the
same way for all. The rules were chosen on digits and MNIST (``docs/training.md`` has the measurements):

- **Network**: of the sizes of ``networks.auto.SIZES`` the largest that sees an image of the data for every
  ``PARAMETERS_PER_IMAGE`` of its parameters, and has at most as many parameters as the data has values. A small network
  sees more images in the same time, and for minutes on a CPU that counts for more than its size.
- **Batch**: a step of B images takes a + b B seconds. With a critical batch B_c, S (1 + B_c / B) steps reach the same
  loss (McCandlish et al. 2018, "An empirical model of large-batch training", eq. 2.11), so the time is least at
  B = (B_c a / b)^(1/2). B_c grows as the loss falls; here with the root of the images that the run will see.
- **Learning rate**: larger for larger batches and smaller for wider networks, by square roots.
- **Warm-up** and **cooldown**: fixed fractions of the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sfumato.data import DataSpec

from .diffusion import DiffusionRecipe
from .networks import AutoNetwork, MLPNetwork, UNetNetwork
from .networks.auto import SIZES
from .recipe import Recipe

PARAMETERS_PER_IMAGE = 7.0
CRITICAL_BATCH = 16.0  # of a run that sees CRITICAL_IMAGES
CRITICAL_IMAGES = 5_000
BATCHES = (8, 256)  # the least and the most
LEAST_STEPS = 300  # a batch is halved as long as there would be fewer
WARMUP = 0.04
COOLDOWN = 0.5
PLANNED = ("batch", "learning_rate", "warmup", "cooldown")  # settings of training
STEPPING = 0.85  # of a budget goes into steps; the rest into measuring, saving and the report


@dataclass(frozen=True)
class Pace:
    """Seconds of a training step of B images: ``overhead + B * per_image``."""

    overhead: float
    per_image: float

    @classmethod
    def through(cls, few: tuple[int, float], many: tuple[int, float]) -> Pace:
        """The pace of two measurements (images, seconds), of which the second has more images."""
        (b, s), (c, t) = few, many
        per_image = max((t - s) / (c - b), 0.1 * t / c)  # noise of the measurement must not make images free
        return cls(max(t - c * per_image, 0.0), per_image)

    def images(self, seconds: float | int, batch: int) -> float:
        """Images seen in so many seconds of steps."""
        return seconds / (self.overhead / batch + self.per_image)


@dataclass(frozen=True)
class Plan:
    """What a budget is good for.

    Arguments:
        recipe: with the numbers filled in.
        images: that training will see.
        passes: over the training data.
    """

    recipe: Recipe
    images: int
    passes: float


def sizes(recipe: Recipe, spec: DataSpec) -> list[Recipe]:
    """The recipe with each size of network that may be chosen for it, smallest first; itself if its size is given."""
    network = recipe.network if isinstance(recipe, DiffusionRecipe) else None
    open_size = isinstance(network, AutoNetwork) and network.size is None and network.width is None
    if not open_size or spec.layout.dimensions == 0:
        return [recipe]
    assert isinstance(network, AutoNetwork)
    return [
        recipe.model_copy(update={"network": network.model_copy(update={"size": size})}) for size in range(len(SIZES))
    ]


def enough(images: float | int, parameters: int, values: int) -> bool:
    """Whether a network with so many parameters is worth its time in a run that sees ``images``.

    Arguments:
        images: that it would see.
        parameters: of the network.
        values: numbers in the training data.
    """
    return parameters <= values and images * PARAMETERS_PER_IMAGE >= parameters


def plan(recipe: Recipe, spec: DataSpec, count: int, pace: Pace, seconds: float | int) -> Plan:
    """Fill in the numbers that the recipe leaves open.

    Arguments:
        recipe: with a chosen size of network.
        spec: the data contract.
        count: training samples.
        pace: of a step of this recipe.
        seconds: the budget.
    """
    settings, stepping = recipe.training, STEPPING * seconds
    batch = settings.batch or _batch(pace, stepping, count)
    images = max(round(pace.images(stepping, batch)), batch)
    chosen = {
        "batch": batch,
        "learning_rate": _learning_rate(recipe, spec, batch),
        "warmup": max(round(WARMUP * images), 10 * batch),
        "cooldown": COOLDOWN,
    }
    missing = {name: chosen[name] for name in PLANNED if getattr(settings, name) is None}
    filled = recipe.model_copy(update={"training": settings.model_copy(update=missing)})
    return Plan(filled, images, images / count)


def shared(recipe: Recipe, planned: Recipe) -> Recipe:
    """``recipe`` with what it leaves open as in ``planned``, a recipe that was planned for the same data and budget."""
    training = {name: getattr(planned.training, name) for name in PLANNED if getattr(recipe.training, name) is None}
    changes: dict[str, object] = {"training": recipe.training.model_copy(update=training)}
    if isinstance(recipe, DiffusionRecipe) and isinstance(planned, DiffusionRecipe):
        ours, theirs = recipe.network, planned.network
        if isinstance(ours, AutoNetwork) and isinstance(theirs, AutoNetwork) and ours.size is ours.width is None:
            changes["network"] = ours.model_copy(update={"size": theirs.size})
    return recipe.model_copy(update=changes)


def _batch(pace: Pace, seconds: float, count: int) -> int:
    """The power of two nearest to the best batch."""
    least, most = BATCHES
    critical = CRITICAL_BATCH * math.sqrt(pace.images(seconds, 2 * least) / CRITICAL_IMAGES)
    best = math.sqrt(critical * pace.overhead / pace.per_image)
    batch: int = 2 ** round(math.log2(min(max(best, least), most)))
    while batch > least and (batch > count or pace.images(seconds, batch) < LEAST_STEPS * batch):
        batch //= 2
    return batch


def _learning_rate(recipe: Recipe, spec: DataSpec, batch: int) -> float:
    """The rate of AdamW."""
    network = recipe.network.resolved(spec, recipe.label) if isinstance(recipe, DiffusionRecipe) else None
    if isinstance(network, UNetNetwork):
        return _rounded(5e-3 * math.sqrt(16 / network.width * min(batch / 16, 4)))
    if isinstance(network, MLPNetwork):
        return _rounded(2e-3 * math.sqrt(256 / network.width * min(batch / 256, 1)))
    return 1e-3


def _rounded(number: float) -> float:
    """Two digits, as a person would write it."""
    return float(f"{number:.1e}")
