"""A model: its module of weights, the contract of its data, and the recipe it was made by.

On disk a model is a folder in the hub's layout: ``config.json`` (recipe and data contract, versioned),
``model.safetensors`` (weights), ``README.md`` (the model card), and ``sampler-N.json`` for each budget of N evaluations
that a table was fitted for (``sfumato tune``). Nothing in it is ever run.
"""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sfumato import sampling
from sfumato._version import __version__
from sfumato.core import Cut, Prediction, Process, SeededNoise
from sfumato.core.levels import expand
from sfumato.data import DataSpec
from sfumato.denoisers import Clamped, Denoiser, NetworkDenoiser, NormBounded, Reprocessed
from sfumato.errors import InputError
from sfumato.files import digest, write_text, write_with
from sfumato.hierarchical import MarkovianHVAE
from sfumato.networks import Configurable
from sfumato.recipes import DiffusionRecipe, Recipe
from sfumato.recipes.diffusion import SamplingSection
from sfumato.recipes.reading import validate
from sfumato.sampling import Tableau, Watch, methods
from sfumato.sampling.cuda_graph import Recorded
from sfumato.sampling.grids import finest_logsnr
from sfumato.sampling.methods import ADAPTIVE
from sfumato.world import ALONE, World

FORMAT = 2  # of config.json; raised when an older reader could misread a newer folder

_Draw = Callable[[int, int, SeededNoise], Tensor]  # (number of the first, count, noise): samples in model units

TOLERANCE = 1e-4  # of the adaptive sampler, in model units: below what 8 bits show


@dataclass(frozen=True, eq=False)
class Model:
    """A trained (or fresh) model. ``module`` and ``recipe`` agree; ``spec`` says what its numbers mean.

    ``fitted`` holds the tables that were fitted to these very weights, by their number of evaluations, and
    ``fitted_to`` the digest of the weights. ``process``, where it is not the recipe's own, is that of ``under``.
    """

    module: NetworkDenoiser | MarkovianHVAE
    spec: DataSpec
    recipe: Recipe
    fitted: Mapping[int, Tableau] = field(default_factory=dict)
    fitted_to: str = ""
    process: Process | None = None

    @classmethod
    def fresh(cls, recipe: Recipe, spec: DataSpec) -> "Model":
        """An untrained model for data of this contract. Raises InputError for a recipe that cannot be built."""
        recipe = recipe.resolved(spec)
        module = recipe.build(spec)
        assert isinstance(module, (NetworkDenoiser, MarkovianHVAE))
        return cls(module, spec, recipe)

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | torch.device = "cpu") -> "Model":
        """The model that ``folder`` holds, ready to sample on ``device``, its weights frozen.

        Raises InputError, one line that names the file, when one is missing, truncated, foreign, of a newer format, or
        does not fit the recipe.
        """
        folder = Path(folder)
        config = read_config(folder)
        where = str(folder / "config.json")
        try:
            spec = DataSpec.from_dict(config["data"])
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        model = cls.fresh(validate(config["recipe"], where), spec)
        load_weights(model.module, folder / "model.safetensors")
        model.module.to(device).eval().requires_grad_(False)
        weights = digest(folder / "model.safetensors")
        return replace(model, fitted=read_fitted(folder, weights)[0], fitted_to=weights)

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Write config.json, model.safetensors and README.md (``card``, or a short one) into ``folder``.

        Each file is written beside and renamed, so an interrupted save leaves the former one whole. Raises InputError
        for a model under a process that is not its own.
        """
        if self.process is not None:
            raise InputError("save_pretrained: this model is under another process; save the one that it was made from")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self.module.state_dict(), folder / "model.safetensors")
        write_text(folder / "README.md", card or self.card())
        for tableau in self.fitted.values():
            write_fitted(folder, tableau, self.fitted_to)
        write_text(folder / "config.json", json.dumps(self.config(), indent=2, ensure_ascii=False) + "\n")

    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        return {
            "format": FORMAT,
            "sfumato": __version__,
            "recipe": self.recipe.model_dump(mode="json"),
            "data": self.spec.to_dict(),
            "parameters": self.num_parameters,
        }

    def card(self, measured: Mapping[str, str] | None = None) -> str:
        """The model card: what it is, how to use it, what was ``measured``."""
        shape = " x ".join(map(str, self.spec.shape))
        kind = self.recipe.kind
        lines = [
            f"# {self.recipe.name} on {self.spec.source}",
            "",
            f"A {kind} of {self.spec.layout.name} data ({shape}), {self.num_parameters:,} parameters, trained on "
            f"{self.spec.count:,} samples with Sfumato {__version__}.",
            "",
            "```python",
            "from sfumato import Model",
            "",
            'model = Model.from_pretrained("this/folder")',
            "samples = model.sample(16, seed=0)",
            "```",
        ]
        if measured:
            lines += ["", "| measured | |", "|---|---|", *(f"| {name} | {value} |" for name, value in measured.items())]
        return "\n".join(lines) + "\n"

    def under(self, process: Process) -> "Model":
        """The same beliefs under another ``process``: sampled, scored and tuned as if trained under it.

        Any schedule and scaling will do, as x / alpha at a log-SNR means the same in all; of the schedule the part is
        ``Cut`` out that has the noise levels this model knows. The probability-flow ODE leads from a start to the same
        sample. Raises InputError for a hierarchical VAE, and for a schedule without any of the model's levels.
        """
        own = replace(self, process=None).denoiser.process
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
        return replace(self, process=process, fitted={})

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser of a diffusion model. Raises InputError for a hierarchical VAE, which has none."""
        if isinstance(self.module, MarkovianHVAE):
            raise InputError(
                f"{self._vae()} and has no denoiser: no sampler to choose, tune or certify, and no likelihood by one; "
                "give a diffusion model"
            )
        return self.module if self.process is None else Reprocessed(self.module, self.process)

    def _vae(self) -> str:
        assert isinstance(self.module, MarkovianHVAE)
        several = len(self.module.widths) > 1
        latents = f"its {len(self.module.widths)} latents in turn" if several else "one latent"
        return f"{self.recipe.name}: a hierarchical VAE draws {latents}"

    def check_settings(self, **settings: Any) -> None:
        """Raises InputError for a hierarchical VAE and any of these settings of a sampler that is not None."""
        given = [name for name, value in settings.items() if value is not None]
        if given and isinstance(self.module, MarkovianHVAE):
            raise InputError(f"{self._vae()} and has no sampler to choose; leave out {', '.join(given)}")

    @property
    def sampling(self) -> SamplingSection:
        """The default sampler and its steps."""
        assert isinstance(self.recipe, DiffusionRecipe)
        return self.recipe.sampling

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def sampler(self, name: str | None = None, eta: float | None = None, tolerance: float | None = None) -> str:
        """The sampler of that name; without one, the one whose setting is given, or the recipe's."""
        if name is None and eta is not None:
            return "ddim"
        if name is None and tolerance is not None:
            return ADAPTIVE
        return name or self.sampling.sampler

    def tableau(self, sampler: str | None = None, steps: int | None = None, eta: float | None = None) -> Tableau:
        """The table of ``sampler`` at ``steps`` evaluations of the network, or the recipe's.

        "auto" is the table fitted to this model at that budget if there is one, else ``methods.auto``; any other name
        is one of ``methods.METHODS``, with as many steps as the evaluations pay for. ``eta`` is for "ddim". Raises
        InputError for an unknown sampler, an ``eta`` for one that has none, and for "adaptive", which is not a table.
        """
        with torch.no_grad():  # a schedule may be learned; a table is numbers
            return self._tableau(sampler, steps, eta)

    def _tableau(self, sampler: str | None, steps: int | None, eta: float | None) -> Tableau:
        process = self.denoiser.process
        sampler = self.sampler(sampler, eta)
        steps = self.sampling.steps if steps is None else steps
        if eta is not None and sampler != "ddim":
            raise InputError(f"eta: {sampler} has none; use the ddim sampler")
        if sampler == "auto" and steps in self.fitted:
            return self.fitted[steps]
        if eta is not None:
            table = sampling.ddim(process, methods.in_time(process, steps), eta)
        else:
            table = methods.tableau(process, sampler, steps)
        if table.stochastic and self.recipe.trained_on_pairs:
            raise InputError(
                f"sampler: {sampler} adds noise, and this model, trained on pairs of noise and data, knows the flow "
                "between them alone; choose auto, euler, heun or another that adds none"
            )
        return table

    def beliefs(self) -> Denoiser:
        """The denoiser that sampling calls: x_0 clamped to the data's range where the data is bounded.

        Elsewhere x_0 is kept within ``spec.radius`` of the origin (``denoisers.NormBounded``).
        """
        bounds = self.spec.model_bounds()
        if bounds is None:
            radius = self.spec.radius
            return NormBounded(self.denoiser, radius) if radius > 0 else self.denoiser
        return Clamped(self.denoiser, *bounds)

    def sample(
        self,
        count: int,
        *,
        seed: int = 0,
        sampler: str | None = None,
        steps: int | None = None,
        eta: float | None = None,
        tolerance: float | None = None,
        batch: int = 256,
        first: int = 0,
        watch: Callable[[int, int, Tensor, Tensor, Prediction], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
        world: World = ALONE,
    ) -> Tensor:
        """``count`` samples in the data's own units, floating, shape (count, *shape), on the CPU.

        Clipped where the data is bounded; ``spec.to_array(spec.encode(samples))`` rounds to its levels and type.

        Sample i depends on (seed, first + i) alone, never on ``batch`` or its neighbours (up to the float rounding of
        the network). ``watch(first, row, t, x, prediction)`` is called after each evaluation, with the index of the
        first sample of the batch, and ``progress(done, count)`` after each batch. On a GPU, runs of a table that nobody
        watches are recorded and replayed as CUDA graphs, when there are several batches. ``tolerance`` is for the
        "adaptive" sampler, 1e-4 unless given; ``steps`` and ``eta`` are for the others. A hierarchical VAE has no
        sampler, and takes neither its settings nor ``watch``.
        The processes of a ``world`` draw a batch each at a time, and all of them return all samples; each one's
        ``watch`` sees its own.
        Raises InputError for a count below 1, a setting that the model or its sampler has not, and for what
        ``tableau`` refuses.
        """
        if count < 1 or batch < 1:
            raise InputError(f"count {count}, batch {batch}: give at least 1")
        self.check_settings(sampler=sampler, steps=steps, eta=eta, tolerance=tolerance, watch=watch)
        if isinstance(self.module, MarkovianHVAE):
            draw = _latents(self.module)
        else:
            draw = self._run(sampler, steps, eta, tolerance, watch)
        parts = []
        with self._drawing():
            # A batch of each process at a time: one that is slower is waited for after each, not after hours.
            for i in range(first, first + count, batch * world.size):

                def part(begin: int, end: int, i: int = i) -> Tensor:
                    n = end - begin
                    return self.spec.decode(draw(i + begin, n, SeededNoise.samples(seed, n, i + begin)))

                parts.append(world.shared(min(batch * world.size, first + count - i), part))
                if progress is not None:
                    progress(min(i + batch * world.size - first, count), count)
        return torch.cat(parts)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """The module as samples are drawn: without dropout and derivatives, and on a GPU with fused attention."""
        was_training = self.module.training
        self.module.eval()
        networks = (
            [m for m in self.module.modules() if isinstance(m, Configurable)] if self.device.type == "cuda" else []
        )
        for network in networks:
            network.configure(attention="fused")
        try:
            with torch.no_grad():
                yield
        finally:
            self.module.train(was_training)
            for network in networks:
                network.configure(attention="written")

    def _run(
        self,
        sampler: str | None,
        steps: int | None,
        eta: float | None,
        tolerance: float | None,
        watch: Callable[[int, int, Tensor, Tensor, Prediction], None] | None,
    ) -> _Draw:
        """The runs of a sampler, in model units."""
        sampler = self.sampler(sampler, eta, tolerance)
        tableau = None
        if sampler != ADAPTIVE:
            tableau = self.tableau(sampler, steps, eta)
            if tolerance is not None:
                raise InputError(f"tolerance: {sampler} has none; use the adaptive sampler, or steps")
        elif steps is not None or eta is not None:
            raise InputError("steps, eta: adaptive takes the steps it needs; give it a tolerance")
        denoiser, shape = self.beliefs(), self.spec.shape
        start = self.denoiser.process.prior(1.0 if tableau is None else tableau.start)

        def run(keys: Tensor, first: int, check: bool) -> Tensor:
            noise = SeededNoise(keys)
            z = noise(0, torch.empty((len(keys), *shape), device=self.device))
            x = expand(start.variance.sqrt(), z) * z
            on_row = None if watch is None else _at(watch, first)
            if tableau is None:
                return sampling.solve(
                    denoiser, x, tolerance=TOLERANCE if tolerance is None else tolerance, watch=on_row
                )
            return sampling.run(denoiser, tableau, x, noise=noise, watch=on_row, check=check)

        # A learned schedule's numbers are asked for at every level.
        learned = isinstance(self.denoiser.process.schedule, torch.nn.Module)
        if self.device.type == "cuda" and tableau is not None and watch is None and not learned:
            recorded = Recorded(lambda keys: run(keys, 0, not torch.cuda.is_current_stream_capturing()))
            return lambda first, count, noise: recorded(noise.keys.to(self.device))
        return lambda first, count, noise: run(noise.keys, first, True)


def _latents(module: MarkovianHVAE) -> _Draw:
    return lambda first, count, noise: module.sample(count, noise)


def _at(watch: Callable[[int, int, Tensor, Tensor, Prediction], None], first: int) -> Watch:
    return lambda row, t, x, prediction: watch(first, row, t, x, prediction)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model or run folder. Raises InputError when it is missing, not ours, or of a newer format."""
    path = folder / "config.json"
    if folder.is_file():
        raise InputError(f"{folder}: is a file; give its folder, the one that 'sfumato train' printed")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a run or model folder, the one that 'sfumato train' printed")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder}: no config.json, so not a model folder; give one that 'sfumato train' made"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged or not JSON ({error}); restore it from a copy") from None
    if not isinstance(config, dict) or not {"format", "recipe", "data"} <= config.keys():
        raise InputError(f"{path}: not a Sfumato model (no format, recipe and data); give a folder that Sfumato wrote")
    if config["format"] != FORMAT:
        raise InputError(
            f"{path}: format {config['format']!r}, and this Sfumato {__version__} reads {FORMAT}; upgrade Sfumato"
        )
    return config


def write_fitted(folder: Path, tableau: Tableau, weights: str, measured: Mapping[str, Any] | None = None) -> Path:
    """Write ``sampler-N.json``: a table fitted to the weights of that digest, with what was ``measured`` of it."""
    path = folder / f"sampler-{tableau.evaluations}.json"
    about = {"format": FORMAT, "sfumato": __version__, "weights": weights, "measured": dict(measured or {})}
    write_text(path, json.dumps({**about, "tableau": tableau.to_dict()}) + "\n")
    return path


def read_fitted(folder: Path, weights: str) -> tuple[dict[int, Tableau], dict[str, str]]:
    """The tables in ``folder`` fitted to the weights of that digest, by evaluations, and why others are not used.

    The reasons are by file name: fitted before training went on, damaged, of a newer format. None keeps a model from
    being sampled, as every budget has a table without them.
    """
    fitted: dict[int, Tableau] = {}
    unused: dict[str, str] = {}
    for path in sorted(folder.glob("sampler-*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["weights"] != weights:
                unused[path.name] = "was fitted to other weights"
            elif data["format"] != FORMAT:
                unused[path.name] = f"has format {data['format']!r}, and this Sfumato {__version__} reads {FORMAT}"
            else:
                tableau = Tableau.from_dict(data["tableau"])
                fitted[tableau.evaluations] = tableau
        except (OSError, ValueError, KeyError, TypeError) as error:
            unused[path.name] = f"is damaged ({' '.join(str(error).split())})"
    return fitted, unused


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Named tensors as safetensors, written beside and renamed."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_with(path, lambda beside: save_file(tensors, beside, metadata={"format": "pt"}))


def load_weights(network: torch.nn.Module, path: Path) -> None:
    """Fill ``network`` from a safetensors file. Raises InputError when it is missing, damaged, or of other shapes."""
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise InputError(
            f"{path}: missing; the folder is incomplete, copy the weights into it or train again"
        ) from None
    except (SafetensorError, OSError, struct.error, ValueError) as error:
        raise InputError(f"{path}: damaged or not safetensors ({error}); restore it from a copy") from None
    fill(network, state, path)


def fill(network: torch.nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load ``state``, read from ``path``. Raises InputError naming the first tensor that does not fit."""
    expected = network.state_dict()
    for name in [*expected, *state]:
        if name not in state or name not in expected:
            verb = "lacks" if name not in state else "has an unknown"
            raise InputError(f"{path}: {verb} tensor '{name}'; the weights are of another network than config.json's")
        if state[name].shape != expected[name].shape:
            raise InputError(
                f"{path}: '{name}' is {tuple(state[name].shape)}, config.json's network has "
                f"{tuple(expected[name].shape)}; the weights are of another network"
            )
    network.load_state_dict(dict(state))
