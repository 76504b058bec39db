"""The hierarchical VAE as a model: latents drawn from the top down, with no denoiser and no sampler to choose."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from sfumato.core import SeededNoise
from sfumato.data import DataSpec
from sfumato.denoisers import Condition
from sfumato.errors import InputError
from sfumato.generate import Watch, drawing, in_batches
from sfumato.hierarchical import MarkovianHVAE
from sfumato.recipes import HierarchyRecipe, Recipe
from sfumato.reporting import Progress
from sfumato.world import ALONE, World

from .generative_model import Ability, GenerativeModel, SamplingPlan


@dataclass(frozen=True, eq=False)
class HierarchicalModel(GenerativeModel):
    """A hierarchical VAE with the contract of its data.

    Arguments:
        hierarchy: encoders, generators and prior.
        spec: the contract of the data.
        made_by: the recipe that made the model; None for a model that no recipe made, which cannot be saved.
    """

    kind = HierarchyRecipe.kind
    denoiser = None

    hierarchy: MarkovianHVAE
    spec: DataSpec
    made_by: Recipe | None = None

    @classmethod
    def fresh(cls, recipe: Recipe, spec: DataSpec) -> "HierarchicalModel":
        """An untrained model for data of this contract.

        Raises:
            InputError: a recipe that cannot be built, or that makes another kind of model.
        """
        if not isinstance(recipe, HierarchyRecipe):
            raise InputError(f"{recipe.name}: makes a {recipe.kind}, not a {cls.kind}; give the recipe of one")
        recipe = recipe.resolved(spec)
        return cls(recipe.build(spec), spec, recipe)

    def with_fitted(self, folder: Path) -> "HierarchicalModel":
        """The model itself: it has no samplers to fit."""
        return self

    @property
    def module(self) -> MarkovianHVAE:
        """The hierarchy: all that is trained."""
        return self.hierarchy

    def with_module(self, module: MarkovianHVAE) -> "HierarchicalModel":
        """The same model with other weights."""
        return replace(self, hierarchy=module)

    @property
    def limits(self) -> Mapping[Ability, str]:
        """It has no samplers, no noise on the way and no flow."""
        count = len(self.hierarchy.widths)
        draws = f"a hierarchical VAE draws {f'its {count} latents in turn' if count > 1 else 'one latent'}"
        return {
            "sampler": f"{draws} and has no sampler to choose",
            "noise": f"{draws} and has no sampler to choose",
            "flow": "a hierarchical VAE has neither noise levels to visit nor a flow to follow",
        }

    def plan(
        self,
        sampler: str | None = None,
        steps: int | None = None,
        eta: float | None = None,
        tolerance: float | None = None,
        cond: Condition | None = None,
    ) -> SamplingPlan:
        """How ``sample`` would draw. Raises InputError for any setting of a sampler, and for a condition."""
        self.require("sampler", sampler=sampler, steps=steps, eta=eta, tolerance=tolerance)
        if cond is not None:
            raise InputError(f"{self.name}: a hierarchical VAE takes no condition; leave out cond")
        count = len(self.hierarchy.widths)
        text = f"through {count} latent{'' if count == 1 else 's'}"
        return SamplingPlan(f"latents-{count}", text, {"latents": count}, "latents", "latents", count)

    def sample(
        self,
        count: int,
        *,
        seed: int = 0,
        sampler: str | None = None,
        steps: int | None = None,
        eta: float | None = None,
        tolerance: float | None = None,
        cond: Condition | None = None,
        batch: int = 256,
        first: int = 0,
        watch: Watch | None = None,
        progress: Progress | None = None,
        world: World = ALONE,
    ) -> Tensor:
        """Draw ``count`` samples in the data's own units (see ``GenerativeModel.sample``).

        Raises:
            InputError: a count below 1, any setting of a sampler, ``watch``, or a condition.
        """
        self.plan(sampler, steps, eta, tolerance, cond)
        self.require("sampler", watch=watch)

        def draw(first: int, noise: SeededNoise, cond: Condition | None) -> Tensor:
            return self.hierarchy.sample(len(noise.keys), noise)

        with drawing(self.hierarchy):
            samples = in_batches(draw, count, seed, batch=batch, first=first, progress=progress, world=world)
        return self.spec.decode(samples)
