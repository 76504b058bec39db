"""The base of every kind of generative model.

A model is a module with weights, the contract of its data, and the recipe that made it. Each kind of model is one
class. ``kinds`` maps recipes to classes; ``model_folder`` defines what a model is on disk.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, SupportsIndex, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato import model_folder
from sfumato.data import DataSpec
from sfumato.denoisers import Condition, Denoiser
from sfumato.errors import InputError
from sfumato.files import expanded, write_text
from sfumato.generate import Watch, device_of
from sfumato.likelihood import Bound, Exact, LikelihoodOptions
from sfumato.model_folder import Config
from sfumato.recipes import Recipe
from sfumato.reporting import Progress
from sfumato.world import ALONE, World

from .class_condition import Classes, Given, condition
from .sampling_plan import SamplingPlan

Ability = Literal["sampler", "bound", "flow", "noise"]
"""Abilities that some models lack: a choice of samplers, a bound on the likelihood, an exact likelihood along a flow,
samplers that add noise."""

M = TypeVar("M", bound="GenerativeModel")


def _shown(model: "GenerativeModel") -> str:
    """The model in three or four lines."""
    spec = model.spec
    shape = " x ".join(map(str, spec.shape))
    trained = "" if model.made_by is None else f", trained on {spec.source} ({spec.count:,} samples)"
    # Without a recipe the sampler may have yet to be chosen by measurement, which printing must not start.
    drawn = f"\n  draws {model.plan().text}" if model.made_by is not None and model.can("sampler") else ""
    return (
        f"{type(model).__name__}: {model.name}, a {model.kind}{trained}\n"
        f"  {spec.layout.name} data, {shape}, {spec.transform.range_in_words()}\n"
        f"  {model.num_parameters:,} parameters on {model.device}{drawn}"
    )


class GenerativeModel(ABC):
    """A generative model of any kind.

    A subclass is a frozen dataclass with these fields. A model may have no recipe (``made_by``), and no ``denoiser``.
    """

    kind: ClassVar[str]  # such as "diffusion model"
    denoiser: Denoiser | None
    spec: DataSpec  # the contract of the data
    made_by: Recipe | None
    __repr__ = _shown
    condition = condition

    @classmethod
    @abstractmethod
    def fresh(cls: type[M], recipe: Recipe, spec: DataSpec) -> M:
        """An untrained model for such data. Raises InputError for a recipe of another kind, or that cannot be built."""

    @classmethod
    def from_pretrained(cls: type[M], folder: str | Path, device: str | torch.device = "cpu") -> M:
        """The model in ``folder``, on ``device``, with frozen weights. ``kinds.load`` takes any kind of model.

        Raises:
            InputError: a file is missing, damaged or does not fit, or the folder holds another kind of model.
        """
        folder = expanded(folder)
        config = model_folder.read_config(folder)
        model = cls.fresh(config.recipe, config.spec)
        model_folder.load_weights(model.module, folder / "model.safetensors", config.digest)
        model.module.to(device).eval().requires_grad_(False)
        return model

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Write config.json, model.safetensors and README.md (``card``, or a short one) into ``folder``.

        Raises InputError for a model without a recipe, or under a process that is not its own.
        """
        config, folder = self.config(), expanded(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model_folder.save_weights(self.module.state_dict(), folder / "model.safetensors", config.digest)
        write_text(folder / "README.md", card or self.card())
        model_folder.write_config(folder, config)

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """The module with everything that is trained."""

    @abstractmethod
    def with_module(self: M, module: Any) -> M:
        """The same model with other weights, in a ``module`` of the same class."""

    @property
    @abstractmethod
    def limits(self) -> Mapping[Ability, str]:
        """The abilities that this model lacks, each with the reason, a clause that continues the model's name."""

    def can(self, ability: Ability) -> bool:
        """Whether the model has this ability."""
        return ability not in self.limits

    def require(self, ability: Ability, **settings: Any) -> None:
        """Raise InputError unless the model has this ability; with ``settings``, only if one of them is not None."""
        given = [name for name, value in settings.items() if value is not None]
        if not self.can(ability) and (given or not settings):
            raise self.refusal(ability, f"leave out {', '.join(given)}" if given else "give another model")

    def refusal(self, ability: Ability, remedy: str = "give another model") -> InputError:
        """The error for an ability that the model lacks."""
        return InputError(f"{self.name}: {self.limits[ability]}; {remedy}")

    @abstractmethod
    def bound(
        self,
        x_0: Float[Tensor, "n *s"],
        options: LikelihoodOptions | None = None,
        *,
        cond: Condition | None = None,
        progress: Progress | None = None,
        world: World = ALONE,
    ) -> Bound:
        """The bound on the likelihood of samples, in nats: of probabilities for data with levels, else of densities.

        Arguments:
            x_0: samples (N, *) in model units, on the model's device (``spec.encode``).
            options: how to measure; by default what suits the data.
            cond: the condition, one row per sample.
            progress: called with the evaluations of a batch.
            world: the processes that share the work. Each passes all samples, and returns all numbers.

        Raises:
            InputError: options that do not fit the model.
        """

    @abstractmethod
    def flow(
        self,
        x_0: Float[Tensor, "n *s"],
        options: LikelihoodOptions | None = None,
        *,
        cond: Condition | None = None,
        progress: Progress | None = None,
        world: World = ALONE,
    ) -> Exact:
        """The likelihood along the probability flow, as ``bound``. Raises InputError for a model without a flow."""

    @abstractmethod
    def forecast(
        self, x_0: Tensor, options: LikelihoodOptions, flow: bool, cond: Condition | None = None, world: World = ALONE
    ) -> float:
        """Seconds that ``bound`` will take, and with ``flow`` the flow too."""

    @property
    def name(self) -> str:
        """The name of its recipe, or the class of its module."""
        return type(self.module).__name__ if self.made_by is None else self.made_by.name

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return device_of(self.module)

    @property
    def recipe(self) -> Recipe:
        """The recipe that made this model. Raises InputError for a model without one."""
        if self.made_by is None:
            raise InputError(f"{self.name}: has no recipe, so it cannot be trained or saved; make one from a recipe")
        return self.made_by

    def config(self) -> Config:
        """The content of config.json. Raises InputError as ``save_pretrained`` does."""
        return Config(self.recipe, self.spec, self.num_parameters)

    def card(self) -> str:
        """The model card. Raises InputError for a model without a recipe."""
        return model_folder.model_card(self.config())

    @abstractmethod
    def plan(
        self,
        sampler: str | None = None,
        steps: SupportsIndex | None = None,
        eta: float | None = None,
        tolerance: float | None = None,
        cond: Condition | None = None,
    ) -> SamplingPlan:
        """How ``sample`` draws with these settings. Raises InputError as ``sample`` does."""

    @abstractmethod
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
        """Draw ``count`` samples in the data's own units, floating, shape (count, *shape), on the CPU.

        Clipped where the data is bounded; ``spec.to_array(spec.encode(samples))`` rounds to its levels and type.
        Sample i depends on (seed, first + i) and on row i of ``cond`` alone, up to rounding.

        Arguments:
            count: number of samples, at least 1.
            seed: random seed.
            sampler: one of ``sampling.methods.NAMES``; None is the model's own, or the one whose setting is given.
            steps: evaluations of the network per sample; None is the model's own number.
            eta: noise that the "ddim" sampler adds, 0 to 1.
            tolerance: of the "adaptive" sampler, 1e-4 unless given.
            classes: the class of all samples or of each, by name; by default all, in the shares of the data.
            given: numbers that samples are given with, by their names; those left out are not given.
            seen: what is known of the samples, an array in data units: for a model of masked data one like a sample,
                NaN where it is hidden; for one of low resolutions such a one. Of all samples, or of each.
            cond: instead of classes and numbers the condition, one row per sample.
            batch: samples per batch.
            first: number of the first sample.
            watch: called after each evaluation as ``watch(first of the batch, row, t, x, prediction)``.
            progress: called after each batch as ``progress(done, count)``.
            world: the processes that share the work. Each returns all samples, and watches its own ones.

        Raises:
            InputError: a count below 1, or a setting that the model or its sampler does not have.
        """
