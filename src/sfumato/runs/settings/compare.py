"""The settings of ``compare``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from sfumato.errors import InputError

from ..command import Settings, comma_separated, in_seconds
from .checks import require_source
from .goal import Goal


@dataclass(frozen=True)
class CompareSettings(Settings):
    """The settings of ``compare``.

    Arguments:
        source: the data: a path, or the name of a built-in data set.
        overrides: settings on top of every recipe, each "key=value".
        recipes: presets or YAML files.
        budget: seconds to train each recipe; 180 by default.
        steps: steps to train each recipe, instead of a time.
        out: the folder of the comparison; runs/compare-SOURCE by default.
        count: number of held-out samples to score, at most.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: settings that contradict each other.
    """

    verb: ClassVar[str] = "compare"
    source: str
    recipes: Annotated[tuple[str, ...], "--recipes", comma_separated] = ("ddpm", "ncsn", "vp-sde", "edm", "flow", "vdm")
    budget: Annotated[float | None, "--budget", in_seconds] = None
    steps: Annotated[int | None, "--steps"] = None
    out: Annotated[Path | None, "--out"] = None
    count: Annotated[int, "--count"] = 128
    device: Annotated[str, "--device"] = "auto"
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps and self.budget:
            raise InputError("--steps and --budget: each recipe ends at one of them; give only one")
        require_source(self.source, self.verb)
        labels = [recipe_label(name) for name in self.recipes]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise InputError(f"--recipes: '{twice}' comes twice; name each recipe once")

    @property
    def goal(self) -> Goal:
        """When the training of each recipe ends."""
        return Goal(steps=self.steps) if self.steps else Goal(seconds=self.budget or 180.0)


def recipe_label(name: str) -> str:
    """The name of a recipe in a comparison: the stem of a YAML file, or the preset."""
    return Path(name).stem if name.endswith((".yaml", ".yml")) else name
