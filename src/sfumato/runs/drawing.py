"""Draw samples from a trained model and write them: a picture, an array, or a movie of how they form."""

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato import recipes
from sfumato.core import Prediction, SeededNoise
from sfumato.errors import InputError
from sfumato.files import write_with
from sfumato.hierarchical import MarkovianHVAE
from sfumato.model import TOLERANCE, Model, read_fitted
from sfumato.report import movie, picture
from sfumato.reporting import SILENT, Reporter, Task, duration
from sfumato.sampling.methods import ADAPTIVE
from sfumato.world import ALONE, joined

from .console import is_main_process
from .device import pick_device
from .folder import RunFolder
from .outputs import require_writable
from .settings import SampleSettings, TuneSettings

FRAMES = 40  # of a movie, at most


@dataclass(frozen=True, eq=False)
class Drawn:
    """Samples that were drawn and written.

    Arguments:
        settings: how they were drawn.
        samples: (count, *shape), in the data's own units.
        method: the sampler in words, such as "by heun, 20 evaluations each".
        record: the same as numbers, for --json.
        files: the files that were written.
        seconds: the time that sampling took.
    """

    settings: SampleSettings
    samples: Tensor
    method: str
    record: dict[str, Any]
    files: list[Path]
    seconds: float

    def describe(self) -> list[str]:
        """The result as lines of text."""
        head = f"{self.settings.count} samples {self.method}, seed {self.settings.seed}, in {duration(self.seconds)}"
        return [head, *map(str, self.files)]

    def to_dict(self) -> dict[str, Any]:
        """What --json prints."""
        return {
            "files": [str(path) for path in self.files],
            "count": self.settings.count,
            "shape": list(self.samples.shape),
            **self.record,
            "seed": self.settings.seed,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class _Plan:
    """How samples are drawn: ``label`` for file names, ``text`` for people; no ``evaluations`` where not known."""

    label: str
    text: str
    record: dict[str, Any]
    sampler: str | None = None
    evaluations: int = 0


def draw(settings: SampleSettings, reporter: Reporter = SILENT) -> Drawn | None:
    """Draw samples and write them; None in a process that leaves both to the main process.

    Raises:
        InputError: a file that cannot be written, a setting that the model or its sampler does not have.
    """
    require_writable("--out", settings.out)
    model = Model.from_pretrained(settings.run, pick_device(settings.device))
    if settings.under is not None:
        model = model.under(recipes.read(settings.under).resolved(model.spec).build_process())
    plan = _latents(model, settings) if not model.recipe.has_process else _sampler(model, settings, reporter)
    if settings.is_movie and not is_main_process():  # the process that writes the movie must see every sample
        return None
    observer = _Observer(model, settings, plan.evaluations)
    started = time.monotonic()
    with nullcontext(ALONE) if settings.is_movie else joined(model.device) as world:
        with reporter.task("sampling") as task:
            watch, progress = observer.callbacks(task, world.size, plan)
            samples = model.sample(
                settings.count,
                seed=settings.seed,
                sampler=plan.sampler,
                steps=settings.steps,
                eta=settings.eta,
                tolerance=settings.tolerance,
                batch=settings.batch,
                watch=watch,
                progress=progress,
                world=world,
            )
        taken = int(world.max(float(observer.evaluations))[0])
    seconds = time.monotonic() - started
    if not world.is_main:
        return None
    files = _write(model, settings, samples, plan.label, observer.frames)
    if plan.sampler is None:
        return Drawn(settings, samples, plan.text, plan.record, files, seconds)
    method = f"{plan.text}, {taken} evaluations each"
    return Drawn(settings, samples, method, {**plan.record, "evaluations": taken}, files, seconds)


def _latents(model: Model, settings: SampleSettings) -> _Plan:
    """A hierarchical VAE has no sampler."""
    assert isinstance(model.module, MarkovianHVAE)
    given = {"sampler": settings.sampler, "steps": settings.steps, "eta": settings.eta}
    given |= {"tolerance": settings.tolerance, "pairs": settings.pairs or None}
    model.check_settings(**{f"--{name}": value for name, value in given.items()})
    if settings.is_movie:
        raise InputError(
            f"--out {settings.out}: a movie shows the steps from noise to data, which a hierarchical VAE does not "
            "take; end it in .png or .npz"
        )
    latents = len(model.module.widths)
    return _Plan(f"latents-{latents}", f"through {latents} latent{'' if latents == 1 else 's'}", {"latents": latents})


def _sampler(model: Model, settings: SampleSettings, reporter: Reporter) -> _Plan:
    sampler = model.sampler(settings.sampler, settings.eta, settings.tolerance)
    eta = "" if settings.eta is None else f"-eta{settings.eta:g}"
    if sampler == ADAPTIVE:
        if settings.is_movie:
            raise InputError(
                "--out: a movie needs a sampler with a fixed number of steps, and adaptive chooses its own; choose "
                "another sampler"
            )
        label = f"{sampler}-{settings.tolerance or TOLERANCE:g}{eta}"
        return _Plan(label, f"by {sampler}", {"sampler": sampler, "eta": settings.eta}, sampler)
    tableau = model.tableau(sampler, settings.steps, settings.eta)
    name = tableau.name if sampler == "auto" else sampler
    if settings.pairs and tableau.stochastic:
        raise InputError(
            f"--pairs: {name} adds noise on the way, so a sample does not belong to one noise; choose auto or heun"
        )
    if settings.under is None and sampler == "auto":
        _warn_if_unused(model, settings, reporter)
    label = f"{sampler}-{settings.steps or model.sampling.steps}{eta}"
    text = f"by {name}" + ("" if settings.eta is None else f" with eta {settings.eta:g}")
    return _Plan(label, text, {"sampler": name, "eta": settings.eta}, sampler, tableau.evaluations)


def _warn_if_unused(model: Model, settings: SampleSettings, reporter: Reporter) -> None:
    """Warn if a table was fitted for this budget and cannot be used."""
    steps = settings.steps or model.sampling.steps
    unused = read_fitted(settings.run, model.fitted_to)[1]
    name = f"sampler-{steps}.json"
    if steps not in model.fitted and name in unused:
        again = TuneSettings(settings.run, nfe=(steps,)).command()
        reporter.warn(f"{name} {unused[name]} and is not used; '{again}' fits it again")


@dataclass
class _Observer:
    """Counts evaluations, reports progress, and keeps the frames of a movie while samples are drawn."""

    model: Model
    settings: SampleSettings
    planned: int  # evaluations per sample; 0 where only sampling itself can tell
    evaluations: int = 0
    frames: dict[int, list[Tensor]] = field(default_factory=dict)

    def callbacks(self, task: Task, processes: int, plan: _Plan) -> tuple[Any, Any]:
        """The arguments ``watch`` and ``progress`` of ``Model.sample``; one of them is None."""
        if plan.sampler is None:
            return None, task.count
        if self.model.device.type == "cuda" and self.planned and not self.settings.is_movie:
            # A GPU runs whole batches on its own; asking after every evaluation would make it wait.
            self.evaluations = self.planned
            return None, task.count
        every = max(1, -(-self.planned // FRAMES))
        count, at_once = self.settings.count, self.settings.batch * processes
        batches = -(-count // at_once)

        def watch(first: int, row: int, t: Tensor, x: Tensor, prediction: Prediction) -> None:
            self.evaluations = max(self.evaluations, row + 1)
            batch = first // at_once
            if self.planned:
                task.count(self.planned * batch + row + 1, self.planned * batches)
            else:
                task.update(first / count, f"{row + 1} evaluations of batch {batch + 1} of {batches}")
            if self.settings.is_movie and (row % every == 0 or row == self.planned - 1):
                self.frames.setdefault(row, []).append(self.model.spec.decode(prediction.x_0.cpu()))

        return watch, None


def _write(
    model: Model, settings: SampleSettings, samples: Tensor, label: str, frames: dict[int, list[Tensor]]
) -> list[Path]:
    """Write the samples to ``settings.out``, or into the run folder under a name with ``label``."""
    if settings.out is not None:
        paths = [settings.out]
    else:
        folder = RunFolder(settings.run).samples
        folder.mkdir(exist_ok=True)
        name = f"{label}-n{settings.count}-seed{settings.seed}"
        paths = [folder / f"{name}.png", folder / f"{name}.npz"]
    spec = model.spec

    def write(path: Path) -> None:
        if path.suffix.lower() == ".npz":
            arrays = {"samples": spec.to_array(spec.encode(samples))}
            if settings.pairs:
                noise = SeededNoise.samples(settings.seed, settings.count)
                arrays["noise"] = noise(0, torch.empty(samples.shape)).numpy()
            with open(path, "wb") as file:  # given a path, numpy would add .npz to .NPZ
                np.savez_compressed(file, allow_pickle=False, **arrays)
        elif path.suffix.lower() == ".png":
            picture(samples.numpy(), spec).save(path)
        else:
            movie(torch.stack([torch.cat(parts) for _, parts in sorted(frames.items())]).numpy(), spec, path)

    for path in paths:
        write_with(path, write)
    return paths
