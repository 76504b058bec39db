"""The diffusion model: a denoiser, the contract of its data, and defaults for sampling."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato import likelihood, model_folder
from sfumato.best_methods import ExactChoice
from sfumato.bounds import standard_decoder
from sfumato.core import Cut, Process
from sfumato.data import DataSpec
from sfumato.denoisers import Condition, Denoiser, Reprocessed
from sfumato.denoising import denoise
from sfumato.errors import InputError
from sfumato.files import expanded
from sfumato.generate import TOLERANCE, Adaptive, Watch, generate
from sfumato.interpolation import interpolate
from sfumato.likelihood import Bound, Exact, LikelihoodOptions
from sfumato.model_folder import Config, Sampled, TableKey
from sfumato.numerics.integers import optional
from sfumato.recipes import DiffusionRecipe, MixtureRecipe, Recipe, TreesRecipe
from sfumato.recipes.diffusion import SamplingSection
from sfumato.reconstruction import reconstruct
from sfumato.reporting import Progress
from sfumato.sampling import Tableau
from sfumato.sampling.grids import finest_logsnr
from sfumato.sampling.methods import ADAPTIVE
from sfumato.shared_denoiser import shared
from sfumato.world import ALONE, World

from .class_condition import Classes, Given
from .generative_model import Ability, GenerativeModel
from .guided import Guidance, as_sampled, bounded, store, stored, with_guidance
from .sampling_plan import SamplerChoice, SamplingPlan

_NO_DENSITY = "is of a table with categories, steps or gaps, which have no density"
_PAIRS = "was trained on pairs of noise and data, and knows the flow between them alone"
_TREES = "is made of trees, which have no derivative"
_GUIDED = "is guided, and no distribution that is known is sampled then"

Steps = SupportsIndex | None
"""A number of evaluations, or None for the model's own."""


@dataclass(frozen=True, eq=False, repr=False)
class Model(GenerativeModel):
    """A diffusion model: any denoiser, with the contract of its data.

    Arguments:
        denoiser: any module that is a ``Denoiser``: a trained network, a foreign one, or an exact oracle.
        spec: the contract of the data.
        made_by: the recipe that made the model. A model without one samples and is scored, but cannot be saved.
        sampling: the default sampler and number of evaluations; None is the recipe's, or "auto" with 20 evaluations.
        fitted: samplers that were fitted to these weights (``sfumato tune``).
        chosen: by number of evaluations the name of the method that is "auto" (``best_methods``).
        fitted_to: the digest of the weights that samplers were fitted to, and methods chosen for.
        guidance: how samples are guided (``with_guidance``); None for not at all, or as was chosen.
        tuned: the guidance that was chosen for these weights (``sfumato tune --guidance``).
    """

    kind = DiffusionRecipe.kind
    reconstruct, denoise, interpolate = reconstruct, denoise, interpolate
    with_guidance = with_guidance

    denoiser: Denoiser
    spec: DataSpec
    made_by: DiffusionRecipe | MixtureRecipe | TreesRecipe | None = None
    sampling: SamplingSection | None = None
    fitted: Mapping[TableKey, Tableau] = field(default_factory=dict)
    chosen: Mapping[int, str] = field(default_factory=dict)
    fitted_to: str = ""
    guidance: Guidance | None = None
    tuned: Guidance | None = None
    _exact: ExactChoice = field(default_factory=ExactChoice, init=False, repr=False)

    @classmethod
    def fresh(cls, recipe: Recipe, spec: DataSpec) -> "Model":
        """An untrained model for data of this contract (see ``GenerativeModel.fresh``)."""
        if not isinstance(recipe, DiffusionRecipe | MixtureRecipe | TreesRecipe):
            raise InputError(f"{recipe.name}: makes a {recipe.kind}, not a {cls.kind}; give the recipe of one")
        recipe = recipe.resolved(spec)
        return cls(recipe.build(spec), spec, recipe)

    def config(self) -> Config:
        """The content of config.json. Raises InputError as ``save_pretrained`` does."""
        if isinstance(self.denoiser, Reprocessed) or self.guidance is not None:
            raise InputError("save_pretrained: guided or under another process; save the model that it was made from")
        return super().config()

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | torch.device = "cpu") -> "Model":
        """The model in ``folder``, with the samplers fitted to it and chosen for it (see ``GenerativeModel``)."""
        read, path = super().from_pretrained, expanded(folder)
        model, weights = model_folder.with_digest(path, lambda: read(folder, device))
        fitted, chosen = model_folder.read_fitted(path, weights)[0], model_folder.read_chosen(path, weights)
        return replace(model, fitted=fitted, chosen=chosen, fitted_to=weights, tuned=stored(path, weights))

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Write the model and its samplers, fitted and chosen, into ``folder`` (see ``GenerativeModel``)."""
        super().save_pretrained(folder, card)
        if self.chosen:
            model_folder.write_chosen(expanded(folder), self.chosen, model_folder.weights_digest(expanded(folder)))
        for key, table in self.fitted.items():
            model_folder.write_fitted(expanded(folder), key, table, self.fitted_to)
        if self.tuned is not None:
            store(expanded(folder), self.tuned, self.fitted_to)

    @property
    def module(self) -> Denoiser:
        """The denoiser: all that is trained."""
        return self.denoiser

    def sampled(self, cond: Condition | None = None) -> Sampled:
        """What tables are fitted for: samples with the parts of ``cond``, or those drawn by default."""
        guidance = "" if self.guidance is None or self.guidance.weight == 1 else self.guidance.text
        return replace(Sampled.of(self.condition(1) if cond is None else cond), guidance=guidance)

    def with_module(self, module: Denoiser) -> "Model":
        """The same model with other weights, without the samplers fitted to the former ones or chosen for them."""
        return replace(self, denoiser=module, fitted={}, chosen={}, fitted_to="", tuned=None)

    @property
    def limits(self) -> Mapping[Ability, str]:
        """What the model lacks by its recipe, its data or its guidance."""
        return _limits(self)

    def with_process(self, process: Process) -> "Model":
        """The same predictions under another ``process``: sampled, scored and tuned as if trained under it.

        x / alpha at a log-SNR means the same under every process, so the ODE leads from a start to the same sample.
        The schedule is ``Cut`` to the noise levels that this model knows; without any of them, InputError is raised.
        """
        denoiser = self.denoiser.denoiser if isinstance(self.denoiser, Reprocessed) else self.denoiser
        return replace(self, denoiser=Reprocessed(denoiser, _cut(process, denoiser.process)), fitted={}, chosen={})

    def bound(
        self,
        x_0: Float[Tensor, "n *s"],
        options: LikelihoodOptions | None = None,
        *,
        cond: Condition | None = None,
        progress: Progress | None = None,
        world: World = ALONE,
    ) -> Bound:
        """The bound on the likelihood of samples (see ``GenerativeModel.bound``)."""
        self.require("bound")
        options, grid = options or LikelihoodOptions.suited_to(self.spec), self.spec.grid
        denoiser, decoder = shared(self.denoiser, world), standard_decoder(self.denoiser.process, grid)
        found = likelihood.measure_bound(denoiser, x_0, decoder, grid, options, cond=cond, progress=progress)
        return found.shifted(self.spec.log_det(x_0))

    def flow(
        self,
        x_0: Float[Tensor, "n *s"],
        options: LikelihoodOptions | None = None,
        *,
        cond: Condition | None = None,
        progress: Progress | None = None,
        world: World = ALONE,
    ) -> Exact:
        """The likelihood along the probability flow (see ``GenerativeModel.flow``)."""
        self.require("flow")
        options = options or LikelihoodOptions.suited_to(self.spec)
        measured = partial(likelihood.measure_flow, shared(self.denoiser, world), x_0, self.spec.grid, options)
        return measured(cond=cond, progress=progress).shifted(self.spec.log_det(x_0))

    def forecast(
        self, x_0: Tensor, options: LikelihoodOptions, flow: bool, cond: Condition | None = None, world: World = ALONE
    ) -> float:
        """Seconds that ``bound`` will take, and with ``flow`` the flow too."""
        return likelihood.forecast(shared(self.denoiser, world), x_0, self.spec.grid, options, flow, cond)

    def sampling_denoiser(self) -> Denoiser:
        """The denoiser that sampling calls: guided, with x_0 kept within the bounds of the data."""
        denoiser = self.denoiser if self.guidance is None else self.guidance.around(self.denoiser)
        return bounded(denoiser, self.spec)

    def tableau(self, sampler: str | None = None, steps: Steps = None, eta: float | None = None) -> Tableau:
        """The table of a sampler, for the samples that the model draws by default.

        Arguments:
            sampler: "auto" is the table fitted at that budget if there is one, else the method that was chosen, else
                ``methods.auto``. Other names are in ``methods.METHODS``. None is the model's own.
            steps: evaluations of the network per sample. None is the model's own number.
            eta: noise that "ddim" adds, 0 to 1.

        Raises:
            InputError: an unknown sampler, "adaptive", and what the sampler or the model does not have.
        """
        return _table(as_sampled(self), self._choice(sampler, steps, eta, None), None)

    def plan(
        self,
        sampler: str | None = None,
        steps: SupportsIndex | None = None,
        eta: float | None = None,
        tolerance: float | None = None,
        cond: Condition | None = None,
    ) -> SamplingPlan:
        """How ``sample`` would draw with these settings. Raises InputError as ``sample`` does."""
        choice, model = self._choice(sampler, steps, eta, tolerance), as_sampled(self)
        plan = choice.plan(None if choice.sampler == ADAPTIVE else _table(model, choice, cond))
        return plan if model.guidance is None else model.guidance.on(plan)

    def _choice(
        self, sampler: str | None, steps: SupportsIndex | None, eta: float | None, tolerance: float | None
    ) -> SamplerChoice:
        own = self.sampling or (SamplingSection() if self.made_by is None else self.made_by.sampling)
        return SamplerChoice(sampler, optional("steps", steps), eta, tolerance).completed(own.sampler, own.steps)

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
        guidance: int | float | None = None,
        cond: Condition | None = None,
        batch: SupportsIndex = 256,
        first: SupportsIndex = 0,
        watch: Watch | None = None,
        progress: Progress | None = None,
        world: World = ALONE,
    ) -> Tensor:
        """Draw samples (see ``GenerativeModel.sample``), with the weight ``guidance`` as ``with_guidance`` does."""
        model = as_sampled(self, guidance)
        cond = self.condition(count, classes, first, given, seen) if cond is None else cond
        table = model.plan(sampler, steps, eta, tolerance, cond).table
        method = Adaptive(TOLERANCE if tolerance is None else tolerance) if table is None else table
        drawn = partial(generate, model.sampling_denoiser(), method, count, self.spec.model_shape, seed, cond=cond)
        samples = drawn(batch=batch, first=first, watch=watch, progress=progress, world=world)
        return self.spec.decode(samples)


def _table(model: Model, choice: SamplerChoice, cond: Condition | None) -> Tableau:
    """The table of a choice for samples with the parts of ``cond``."""
    chosen, sampled = model.chosen, model.sampled(cond)
    exact = model.made_by is None and sampled == Sampled() and TableKey(choice.steps or 1) not in model.fitted
    if not chosen and exact and choice.sampler == "auto":
        chosen = model._exact.methods(model.sampling_denoiser(), model.spec.model_shape, choice.steps or 1)
    table = choice.table(model.denoiser.process, model.fitted, chosen, sampled)
    _check_noise(model, table, choice)
    return table


def _check_noise(model: Model, table: Tableau, choice: SamplerChoice) -> None:
    """Raise InputError for a table that adds noise where the model knows the flow alone."""
    if table.stochastic and not model.can("noise"):
        raise InputError(
            f"sampler: {choice.sampler} adds noise, and this model, trained on pairs of noise and data, knows the "
            "flow between them alone; choose auto, euler, heun or another that adds none"
        )


def _limits(model: Model) -> Mapping[Ability, str]:
    """Trees lack "flow", pairs "bound" and "noise"; guidance, or data without a density, both likelihoods."""
    trees = isinstance(model.made_by, TreesRecipe)
    pairs = model.made_by is not None and not trees and model.made_by.trained_on_pairs
    found: dict[Ability, str] = {"flow": _TREES} if trees else {"bound": _PAIRS, "noise": _PAIRS} if pairs else {}
    for why in [_GUIDED] * (model.guidance is not None) + [_NO_DENSITY] * (not model.spec.has_density):
        found |= {"bound": why, "flow": why}
    return found


def _cut(process: Process, known: Process) -> Process:
    """``process`` without the noise levels that ``known`` does not have. Raises InputError where none are left."""
    with torch.no_grad():
        ends = (float(process.level(1.0).logsnr), float(process.level(0.0).logsnr))
        lowest, highest = float(known.level(1.0).logsnr), finest_logsnr(known)
    low, high = max(ends[0], lowest), min(ends[1], highest)
    if not low < high:
        raise InputError(
            f"process: its log-SNRs, {ends[0]:.4g} to {ends[1]:.4g}, are none of the model's, {lowest:.4g} to "
            f"{highest:.4g}"
        )
    return process if (low, high) == ends else Process(process.scaling, Cut(process.schedule, low, high))
