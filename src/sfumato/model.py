"""The diffusion model: a denoiser with the contract of its data, and how it is sampled unless told otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from sfumato import model_folder, sampling
from sfumato.core import Cut, Process
from sfumato.data import DataSpec
from sfumato.denoisers import Clamped, Condition, Denoiser, NormBounded, Reprocessed
from sfumato.errors import InputError
from sfumato.generate import TOLERANCE, Adaptive, Watch, generate
from sfumato.model_folder import Config, Sampled, TableKey
from sfumato.recipes import DiffusionRecipe, Recipe
from sfumato.recipes.diffusion import SamplingSection
from sfumato.reporting import Progress
from sfumato.sampling import Tableau, methods
from sfumato.sampling.grids import finest_logsnr
from sfumato.sampling.methods import ADAPTIVE
from sfumato.world import ALONE, World

from .generative_model import Ability, GenerativeModel, SamplingPlan


@dataclass(frozen=True, eq=False)
class Model(GenerativeModel):
    """A diffusion model: any denoiser, with the contract of its data.

    Arguments:
        denoiser: a module that is a ``Denoiser``: a trained network, somebody else's, or an exact oracle.
        spec: the contract of the data.
        made_by: the recipe that made the model; None for a denoiser that no recipe made. Such a model samples and is
            scored like any other, but cannot be saved.
        sampling: the sampler and its number of evaluations unless told otherwise; None is the recipe's, or "auto" with
            20 evaluations.
        fitted: samplers that were fitted to these very weights (``sfumato tune``).
        fitted_to: digest of the weights that the tables were fitted to.
    """

    kind = DiffusionRecipe.kind

    denoiser: Denoiser
    spec: DataSpec
    made_by: DiffusionRecipe | None = None
    sampling: SamplingSection | None = None
    fitted: Mapping[TableKey, Tableau] = field(default_factory=dict)
    fitted_to: str = ""

    @classmethod
    def fresh(cls, recipe: Recipe, spec: DataSpec) -> "Model":
        """An untrained model for data of this contract.

        Raises:
            InputError: a recipe that cannot be built, or that makes another kind of model.
        """
        if not isinstance(recipe, DiffusionRecipe):
            raise InputError(f"{recipe.name}: makes a {recipe.kind}, not a {cls.kind}; give the recipe of one")
        recipe = recipe.resolved(spec)
        return cls(recipe.build(spec), spec, recipe)

    def config(self) -> Config:
        """What config.json says.

        Raises:
            InputError: a model that no recipe made, or one under a process that is not its own.
        """
        if isinstance(self.denoiser, Reprocessed):
            raise InputError("save_pretrained: this model is under another process; save the one that it was made from")
        return super().config()

    def with_fitted(self, folder: Path) -> "Model":
        """The same model with the tables in ``folder`` that were fitted to the weights there."""
        weights = model_folder.weights_digest(folder)
        return replace(self, fitted=model_folder.read_fitted(folder, weights)[0], fitted_to=weights)

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Write the model, and the tables that were fitted to it, into ``folder`` (``GenerativeModel``)."""
        super().save_pretrained(folder, card)
        for key, table in self.fitted.items():
            model_folder.write_fitted(Path(folder), key, table, self.fitted_to)

    @property
    def module(self) -> Denoiser:
        """The denoiser: all that is trained."""
        return self.denoiser

    def unconditional_tables(self) -> dict[int, Tableau]:
        """The fitted tables of unconditional samples, by evaluations."""
        return {key.evaluations: table for key, table in self.fitted.items() if key.sampled == Sampled()}

    def with_module(self, module: Denoiser) -> "Model":
        """The same model with other weights; tables fitted to the former ones are left out."""
        return replace(self, denoiser=module, fitted={}, fitted_to="")

    @property
    def limits(self) -> Mapping[Ability, str]:
        """A model that was trained on pairs of noise and data lacks "bound" and "noise"; others lack nothing."""
        if self.made_by is None or not self.made_by.trained_on_pairs:
            return {}
        why = "was trained on pairs of noise and data, and knows the flow between them alone"
        return {"bound": why, "noise": why}

    def with_process(self, process: Process) -> "Model":
        """The same predictions under another ``process``: sampled, scored and tuned as if trained under it.

        Any schedule and scaling will do, because x / alpha at a log-SNR means the same in all of them. The schedule is
        ``Cut`` to the noise levels that this model knows. The probability-flow ODE leads from a start to the same
        sample.

        Raises:
            InputError: a schedule without any of the model's levels.
        """
        denoiser = self.denoiser.denoiser if isinstance(self.denoiser, Reprocessed) else self.denoiser
        own = denoiser.process
        with torch.no_grad():
            ends = (float(process.level(1.0).logsnr), float(process.level(0.0).logsnr))
            low, high = max(ends[0], float(own.level(1.0).logsnr)), min(ends[1], finest_logsnr(own))
        if not low < high:
            raise InputError(
                f"process: its log-SNRs, {ends[0]:.4g} to {ends[1]:.4g}, are none of the model's, "
                f"{float(own.level(1.0).logsnr):.4g} to {finest_logsnr(own):.4g}"
            )
        if (low, high) != ends:
            process = Process(process.scaling, Cut(process.schedule, low, high))
        return replace(self, denoiser=Reprocessed(denoiser, process), fitted={})

    def sampling_denoiser(self) -> Denoiser:
        """The denoiser that sampling calls: x_0 is clamped to the data's range where the data is bounded.

        Elsewhere x_0 is kept within ``spec.radius`` of the origin (``denoisers.NormBounded``).
        """
        bounds = self.spec.model_bounds()
        if bounds is None:
            radius = self.spec.radius
            return NormBounded(self.denoiser, radius) if radius > 0 else self.denoiser
        return Clamped(self.denoiser, *bounds)

    def sampler(self, name: str | None = None, eta: float | None = None, tolerance: float | None = None) -> str:
        """The sampler of that name; without one, the sampler whose setting is given, or the model's own."""
        if name is None and eta is not None:
            return "ddim"
        if name is None and tolerance is not None:
            return ADAPTIVE
        return name or self._sampling.sampler

    @property
    def _sampling(self) -> SamplingSection:
        return self.sampling or (SamplingSection() if self.made_by is None else self.made_by.sampling)

    def tableau(
        self,
        sampler: str | None = None,
        steps: int | None = None,
        eta: float | None = None,
        sampled: Sampled = Sampled(),  # noqa: B008  # frozen
    ) -> Tableau:
        """The table of a sampler.

        Arguments:
            sampler: "auto" is the table fitted to this model at that budget if there is one, else ``methods.auto``;
                other names are in ``methods.METHODS``. None is the model's own.
            steps: evaluations of the network per sample, at least 1; as many steps as they pay for. None is the
                model's own number.
            eta: noise that "ddim" adds, 0 to 1.
            sampled: conditions and guidance, for which "auto" has fitted tables of their own.

        Returns:
            The table.

        Raises:
            InputError: an unknown sampler, "adaptive", which is not a table, an ``eta`` for a sampler that has none,
                and a sampler that adds noise for a model that cannot use it.
        """
        with torch.no_grad():  # a schedule may be learned; a table is numbers
            sampler = self.sampler(sampler, eta)
            steps = self._sampling.steps if steps is None else steps
            if eta is not None and sampler != "ddim":
                raise InputError(f"eta: {sampler} has none; use the ddim sampler")
            if sampler == "auto" and TableKey(steps, sampled) in self.fitted:
                return self.fitted[TableKey(steps, sampled)]
            process = self.denoiser.process
            if eta is not None:
                table = sampling.ddim(process, methods.in_time(process, steps), eta)
            else:
                table = methods.tableau(process, sampler, steps)
        if table.stochastic and not self.can("noise"):
            raise InputError(
                f"sampler: {sampler} adds noise, and this model, trained on pairs of noise and data, knows the flow "
                "between them alone; choose auto, euler, heun or another that adds none"
            )
        return table

    def plan(
        self,
        sampler: str | None = None,
        steps: int | None = None,
        eta: float | None = None,
        tolerance: float | None = None,
        cond: Condition | None = None,
    ) -> SamplingPlan:
        """How ``sample`` would draw with these settings. Raises InputError as ``sample`` does."""
        sampler = self.sampler(sampler, eta, tolerance)
        if sampler == ADAPTIVE:
            if steps is not None or eta is not None:
                raise InputError("steps, eta: adaptive takes the steps it needs; give it a tolerance")
            tolerance = TOLERANCE if tolerance is None else tolerance
            return SamplingPlan(
                f"{sampler}-{tolerance:g}", f"by {sampler}", {"sampler": sampler, "eta": None}, sampler, sampler, None
            )
        table = self.tableau(sampler, steps, eta, Sampled.of(cond))
        if tolerance is not None:
            raise InputError(f"tolerance: {sampler} has none; use the adaptive sampler, or steps")
        name = table.name if sampler == "auto" else sampler
        text, label = f"by {name}", f"{sampler}-{self._sampling.steps if steps is None else steps}"
        if eta is not None:
            text, label = f"{text} with eta {eta:g}", f"{label}-eta{eta:g}"
        return SamplingPlan(label, text, {"sampler": name, "eta": eta}, sampler, table.name, table.evaluations, table)

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

        On a GPU, runs of a table that nobody watches are recorded and replayed as CUDA graphs, when there are several
        batches.
        """
        table = self.plan(sampler, steps, eta, tolerance, cond).table
        method = Adaptive(TOLERANCE if tolerance is None else tolerance) if table is None else table
        samples = generate(
            self.sampling_denoiser(),
            method,
            count,
            self.spec.model_shape,
            seed,
            cond=cond,
            batch=batch,
            first=first,
            watch=watch,
            progress=progress,
            world=world,
        )
        return self.spec.decode(samples)
