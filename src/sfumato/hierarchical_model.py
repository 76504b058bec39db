"""The hierarchical VAE as a model: it draws latents from the top down, without a denoiser or a sampler."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import SeededNoise
from sfumato.data import DataSpec
from sfumato.denoisers import Condition
from sfumato.errors import InputError
from sfumato.generate import Watch, drawing, in_batches
from sfumato.hierarchical import MarkovianHVAE
from sfumato.likelihood import Bound, Exact, LikelihoodOptions
from sfumato.numerics import random
from sfumato.recipes import HierarchyRecipe, Recipe
from sfumato.reporting import Progress
from sfumato.world import ALONE, World

from .class_condition import Classes, Given
from .generative_model import Ability, GenerativeModel
from .sampling_plan import SamplingPlan

PASSES = 100  # for a bound, by default


@dataclass(frozen=True, eq=False, repr=False)
class HierarchicalModel(GenerativeModel):
    """A hierarchical VAE with the contract of its data.

    Arguments:
        hierarchy: encoders, generators and prior.
        spec: the contract of the data.
        made_by: the recipe that made the model. A model without one cannot be saved.
    """

    kind = HierarchyRecipe.kind
    denoiser = None

    hierarchy: MarkovianHVAE
    spec: DataSpec
    made_by: Recipe | None = None

    @classmethod
    def fresh(cls, recipe: Recipe, spec: DataSpec) -> "HierarchicalModel":
        """An untrained model for data of this contract (see ``GenerativeModel.fresh``)."""
        if not isinstance(recipe, HierarchyRecipe):
            raise InputError(f"{recipe.name}: makes a {recipe.kind}, not a {cls.kind}; give the recipe of one")
        recipe = recipe.resolved(spec)
        return cls(recipe.build(spec), spec, recipe)

    @property
    def module(self) -> MarkovianHVAE:
        """The hierarchy: all that is trained."""
        return self.hierarchy

    def with_module(self, module: MarkovianHVAE) -> "HierarchicalModel":
        """The same model with other weights."""
        return replace(self, hierarchy=module)

    @property
    def limits(self) -> Mapping[Ability, str]:
        """It lacks samplers, noise during sampling, and a flow."""
        count = len(self.hierarchy.widths)
        draws = f"a hierarchical VAE draws {f'its {count} latents in turn' if count > 1 else 'one latent'}"
        return {
            "sampler": f"{draws} and has no sampler to choose",
            "noise": f"{draws} and has no sampler to choose",
            "flow": "a hierarchical VAE has neither noise levels to visit nor a flow to follow",
        }

    @torch.no_grad()
    def bound(
        self,
        x_0: Float[Tensor, "n *s"],
        options: LikelihoodOptions | None = None,
        *,
        cond: Condition | None = None,
        progress: Progress | None = None,
        world: World = ALONE,
    ) -> Bound:
        """The bound on the likelihood of samples, averaged over ``options.evaluations`` passes.

        Raises:
            InputError: a condition.
        """
        self._refuse(cond)
        options = options or LikelihoodOptions.suited_to(self.spec)
        passes, batches = options.evaluations or PASSES, -(-len(x_0) // options.batch)
        batch_terms = []
        for i, start in enumerate(range(0, len(x_0), options.batch)):
            x = x_0[start : start + options.batch]

            def rows(begin: int, end: int, i: int = i, start: int = start, x: Tensor = x) -> Tensor:
                found = []
                for k in range(passes):
                    found.append(self._terms(x[begin:end], random.derive(options.seed, "pass", k), start + begin))
                    if progress is not None:
                        progress(i * passes + k + 1, batches * passes)
                return torch.stack(found, dim=1)

            batch_terms.append(world.shared(len(x), rows))
        terms = torch.cat(batch_terms)  # (N, passes, 3)
        prior, steps, decoder = terms.mean(1).unbind(1)
        variance = terms.sum(2).var(1) / passes if passes > 1 else torch.full_like(prior, math.nan)
        none = prior.new_zeros(len(prior), 0)
        found = Bound(prior, steps, decoder, none, none, none, variance, x_0[0].numel(), passes)
        return found.shifted(self.spec.log_det(x_0))

    def _terms(self, x: Tensor, seed: int, first: int) -> Tensor:
        """Prior, steps and decoder of one pass, (B, 3)."""
        terms = self.hierarchy.terms(x, SeededNoise.samples(seed, len(x), first))
        return torch.stack([terms.prior, terms.steps.sum(1), terms.decoder], dim=1).double()

    def flow(
        self,
        x_0: Float[Tensor, "n *s"],
        options: LikelihoodOptions | None = None,
        *,
        cond: Condition | None = None,
        progress: Progress | None = None,
        world: World = ALONE,
    ) -> Exact:
        """Raises InputError: there is no flow."""
        raise self.refusal("flow")

    def forecast(
        self, x_0: Tensor, options: LikelihoodOptions, flow: bool, cond: Condition | None = None, world: World = ALONE
    ) -> float:
        """Seconds that ``bound`` will take: two passes of a batch are timed."""
        started = time.perf_counter()
        self.bound(x_0[: options.batch], replace(options, evaluations=2), world=world)
        seconds_per_pass = (time.perf_counter() - started) / 2
        return (options.evaluations or PASSES) * seconds_per_pass * -(-len(x_0) // options.batch)

    def _refuse(self, cond: Condition | None) -> None:
        if cond is not None:
            raise InputError(f"{self.name}: a hierarchical VAE takes no condition; leave out cond")

    def plan(
        self,
        sampler: str | None = None,
        steps: SupportsIndex | None = None,
        eta: float | None = None,
        tolerance: float | None = None,
        cond: Condition | None = None,
    ) -> SamplingPlan:
        """How ``sample`` would draw. Raises InputError for any setting of a sampler, and for a condition."""
        self.require("sampler", sampler=sampler, steps=steps, eta=eta, tolerance=tolerance)
        self._refuse(cond)
        count = len(self.hierarchy.widths)
        text = f"through {count} latent{'' if count == 1 else 's'}"
        return SamplingPlan(f"latents-{count}", text, {"latents": count}, "latents", "latents", count)

    def sample(
        self,
        count: SupportsIndex,
        *,
        seed: SupportsIndex = 0,
        sampler: str | None = None,
        steps: SupportsIndex | None = None,
        eta: float | None = None,
        tolerance: float | None = None,
        classes: Classes | None = None,
        given: Given | None = None,
        seen: Any = None,
        cond: Condition | None = None,
        batch: SupportsIndex = 256,
        first: SupportsIndex = 0,
        watch: Watch | None = None,
        progress: Progress | None = None,
        world: World = ALONE,
    ) -> Tensor:
        """Draw ``count`` samples in the data's own units (see ``GenerativeModel.sample``).

        Raises:
            InputError: a count below 1, any setting of a sampler, ``watch``, classes, or a condition.
        """
        self.plan(sampler, steps, eta, tolerance, cond or self.condition(count, classes, given=given, seen=seen))
        self.require("sampler", watch=watch)

        def draw(first: int, noise: SeededNoise, cond: Condition | None) -> Tensor:
            return self.hierarchy.sample(len(noise.keys), noise)

        with drawing(self.hierarchy):
            samples = in_batches(draw, count, seed, batch=batch, first=first, progress=progress, world=world)
        return self.spec.decode(samples)
