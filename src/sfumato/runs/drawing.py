"""Draw samples from a trained model and write them: a picture, an array, or a movie of how they form."""

import math
import re
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato import recipes
from sfumato.core import Prediction, SeededNoise
from sfumato.data import TABLES, DataSpec, TableColumn, typed_columns, write_table
from sfumato.denoisers import Condition
from sfumato.errors import InputError
from sfumato.files import write_with
from sfumato.generate import Watch
from sfumato.generative_model import GenerativeModel
from sfumato.guidance import Interval
from sfumato.guided import CHOSEN as GUIDANCE
from sfumato.guided import as_sampled
from sfumato.kinds import load
from sfumato.model import Model
from sfumato.model_folder import TableKey, read_fitted
from sfumato.report import class_sheet, movie, picture
from sfumato.reporting import SILENT, Progress, Reporter, Task, duration
from sfumato.sampling_plan import SamplingPlan
from sfumato.world import ALONE, joined

from .classes import headings, names_of, numbers_of, with_classes
from .console import is_main_process
from .device import pick_device
from .folder import RunFolder
from .image_files import require_images, require_new, write_images
from .loading import load_early, load_with_samplers
from .outputs import require_writable, writable_or_here
from .settings import SampleSettings, TuneSettings
from .threads import threads

EARLY = "early"  # given as a run to be guided with: the run's own early weights
FRAMES = 40  # of a movie, at most
_SLOW = (  # measured in docs/samplers.md
    "note: langevin mixes slowly; with 2,000 evaluations the weights of ten modes are still 4 standard errors of "
    "10,000 samples off (500: 6 to 7); where weights matter, use auto"
)


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
    record: Mapping[str, Any]
    files: list[Path]
    seconds: float

    def describe(self) -> list[str]:
        """The result as lines of text."""
        head = f"{self.settings.count} samples {self.method}, seed {self.settings.seed}, in {duration(self.seconds)}"
        return [head, *map(str, self.files)]

    def to_dict(self) -> dict[str, Any]:
        """The result as --json prints it."""
        return {
            "files": [str(path) for path in self.files],
            "count": self.settings.count,
            "shape": list(self.samples.shape),
            **self.record,
            "seed": self.settings.seed,
            "seconds": round(self.seconds, 3),
        }


def draw(settings: SampleSettings, reporter: Reporter = SILENT) -> Drawn | None:
    """Draw samples and write them; None in a process that leaves both to the main process.

    Raises:
        InputError: a file that cannot be written, a setting that the model or its sampler does not have.
    """
    if settings.out is not None:
        (require_new if settings.is_folder else require_writable)("--out", settings.out)
    model = _model(settings)
    if settings.out is not None and settings.is_folder:
        require_images("--out", settings.out, model.spec)
    folder = writable_or_here(RunFolder(settings.run).samples, reporter) if settings.out is None else None
    settings, cond = with_classes(settings, model)
    _say_guidance(model, settings, reporter)
    plan = _plan(model, settings, reporter)
    if settings.out is not None and settings.out.suffix.lower() in TABLES:
        columns(model.spec)  # refuse what is no table before the work
    if settings.is_movie and not is_main_process():  # the process that writes the movie must see every sample
        return None
    observer = _Observer(model, settings, plan)
    started = time.monotonic()
    processes = nullcontext(ALONE) if settings.is_movie else joined(model.device)
    with threads(settings.threads, settings.run), processes as world:
        with reporter.task("sampling") as task:
            watch, progress = observer.callbacks(task, world.size)
            samples = model.sample(
                settings.count,
                seed=settings.seed,
                sampler=settings.sampler,
                steps=settings.steps,
                eta=settings.eta,
                tolerance=settings.tolerance,
                cond=cond,
                batch=settings.batch,
                watch=watch,
                progress=progress,
                world=world,
            )
        taken = int(world.max(float(observer.evaluations))[0])
    seconds = time.monotonic() - started
    if not world.is_main:
        return None
    files = _write(model, settings, samples, cond, plan.label, observer.frames, folder)
    if not model.can("sampler"):
        return Drawn(settings, samples, plan.text, plan.record, files, seconds)
    method = f"{plan.text}, {taken} evaluations each"
    return Drawn(settings, samples, method, {**plan.record, "evaluations": taken}, files, seconds)


def _model(settings: SampleSettings) -> GenerativeModel:
    """The model of the run as it is sampled: under another process, guided. Raises InputError for what it cannot."""
    if settings.under is None and settings.guidance is None:
        return load(settings.run, pick_device(settings.device))
    model = _under(settings.run, settings)
    if settings.guidance is None:
        return model
    low = -math.inf if settings.guide_from is None else settings.guide_from
    high = math.inf if settings.guide_until is None else settings.guide_until
    early = str(settings.guide_with) == EARLY
    guide = None if settings.guide_with is None else _under(settings.guide_with, settings)
    name = "its own early weights" if early else str(settings.guide_with or "")
    return model.with_guidance(settings.guidance, Interval(low, high), guide, name)


def _say_guidance(model: GenerativeModel, settings: SampleSettings, reporter: Reporter) -> None:
    """Say that samples are guided as was chosen, or that what was chosen is not used."""
    if settings.guidance is not None or not isinstance(model, Model):
        return
    if model.tuned is not None:
        reporter.info(f"{model.tuned.text}, as 'sfumato tune' chose; --guidance 1 draws without")
    elif (settings.run / GUIDANCE).is_file():
        again = TuneSettings(settings.run, guidance=True).command()
        reporter.warn(f"{GUIDANCE} was chosen for other weights and is not used; '{again}' chooses again")


def _under(run: Path, settings: SampleSettings) -> Model:
    device = pick_device(settings.device)
    model = load_early(settings.run, device) if str(run) == EARLY else load_with_samplers(run, device)
    if settings.under is None:
        return model
    return model.with_process(recipes.read(settings.under).resolved(model.spec).build_process())


def _plan(model: GenerativeModel, settings: SampleSettings, reporter: Reporter) -> SamplingPlan:
    """How the samples will be drawn. Raises InputError for what the model, or the file, cannot have."""
    given = {"sampler": settings.sampler, "steps": settings.steps, "eta": settings.eta, "tolerance": settings.tolerance}
    flags = {f"--{name}": value for name, value in given.items()}
    model.require("sampler", **flags, **{"--pairs": settings.pairs or None})
    plan = model.plan(settings.sampler, settings.steps, settings.eta, settings.tolerance)
    if settings.is_movie and plan.table is None:
        raise InputError(
            f"--out {settings.out}: a movie shows the steps from noise to data, but sampling {plan.text} has no fixed "
            "steps; choose another sampler, or end the name in .png or .npz"
        )
    if settings.pairs and plan.table is not None and plan.table.stochastic:
        raise InputError(
            f"--pairs: {plan.record['sampler']} adds noise on the way, so a sample does not belong to one noise; "
            "choose auto or heun"
        )
    if plan.sampler == "langevin":
        reporter.info(_SLOW)
    if isinstance(model, Model) and settings.under is None and plan.sampler == "auto" and plan.evaluations:
        _warn_if_unused(model, plan.evaluations, settings, reporter)
    return plan


def _warn_if_unused(model: Model, evaluations: int, settings: SampleSettings, reporter: Reporter) -> None:
    """Warn if a table was fitted for this budget and cannot be used."""
    unused, key = read_fitted(settings.run, model.fitted_to)[1], TableKey(evaluations, as_sampled(model).sampled())
    if key not in model.fitted and key.file in unused:
        again = TuneSettings(settings.run, nfe=(evaluations,)).command()
        reporter.warn(f"{key.file} {unused[key.file]} and is not used; '{again}' fits it again")


def columns(spec: DataSpec) -> list[str]:
    """The names of the columns of a table of samples: those of the data, the positions of a signal, or numbers.

    Raises:
        InputError: samples that are not rows of a table.
    """
    if spec.layout.rank > 1 and not (spec.layout.dimensions == 1 and spec.shape[0] == 1):
        raise InputError(
            f"--out: {spec.layout.describe(spec.shape)} do not fit into a table; end the name in .npz or .png"
        )
    if spec.axis is not None:
        unit = f" {spec.axis.unit}" if spec.axis.unit and not spec.axis.name else ""  # as the first row had it
        return [f"{position:.9g}{unit}" for position in spec.axis.values]
    return (
        list(spec.channels) if spec.layout.rank == 1 and spec.channels else [f"x{i + 1}" for i in range(spec.shape[-1])]
    )


def _given(spec: DataSpec, numbers: Tensor | None) -> list[TableColumn]:
    """The columns of the numbers (n, k) that samples are given with."""
    if numbers is None:
        return []
    cells = [[None if math.isnan(x) else x for x in column] for column in numbers.T.tolist()]
    return [TableColumn(each.name, column, "float") for each, column in zip(spec.conditions, cells, strict=True)]


def _in_a_file_name(classes: tuple[str, ...]) -> list[str]:
    """The names of a few classes as parts of a file's name; of more of them only how many there are."""
    if len(classes) > 3:
        return [f"{len(classes)}-classes"]
    return [re.sub(r"[^\w.]+", "_", name)[:24] for name in classes]


def _own_ending(run: Path) -> list[str]:
    """The ending of the data's file, if it is a table: samples are written in the same format."""
    try:
        ending = Path(RunFolder(run).origin().source).suffix.lower()
    except InputError:  # a model folder without a run
        return []
    return [ending] if ending in TABLES else []


@dataclass
class _Observer:
    """Counts evaluations, reports progress, and keeps the frames of a movie while samples are drawn."""

    model: GenerativeModel
    settings: SampleSettings
    plan: SamplingPlan
    evaluations: int = 0
    frames: dict[int, list[Tensor]] = field(default_factory=dict)

    def callbacks(self, task: Task, processes: int) -> tuple[Watch | None, Progress | None]:
        """The arguments ``watch`` and ``progress`` of ``sample``; one of them is None."""
        planned = self.plan.evaluations
        if not self.model.can("sampler"):
            return None, task.count
        if self.model.device.type == "cuda" and planned and not self.settings.is_movie:
            # A GPU runs whole batches on its own; asking after every evaluation would make it wait.
            self.evaluations = planned
            return None, task.count
        every = max(1, -(-(planned or 0) // FRAMES))
        count, at_once = self.settings.count, self.settings.batch * processes
        batches = -(-count // at_once)

        def watch(first: int, row: int, t: Tensor, x: Tensor, prediction: Prediction) -> None:
            self.evaluations = max(self.evaluations, row + 1)
            batch = first // at_once
            if planned:
                task.count(planned * batch + row + 1, planned * batches)
            else:
                task.update(first / count, f"{row + 1} evaluations of batch {batch + 1} of {batches}")
            if self.settings.is_movie and (row % every == 0 or row + 1 == planned):
                self.frames.setdefault(row, []).append(self.model.spec.decode(prediction.x_0.cpu()))

        return watch, None


def _write(
    model: GenerativeModel,
    settings: SampleSettings,
    samples: Tensor,
    cond: Condition | None,
    label: str,
    frames: dict[int, list[Tensor]],
    folder: Path | None,
) -> list[Path]:
    """Write the samples and what they are given to ``settings.out``, or into ``folder`` under a name with ``label``."""
    classes, numbers = names_of(cond, model), numbers_of(cond, model)
    if folder is None:
        assert settings.out is not None
        paths = [settings.out]
    else:
        folder.mkdir(exist_ok=True)
        asked = "".join(f"-{name}" for name in _in_a_file_name((*settings.classes, *settings.conditions)))
        name = f"{label}{asked}-n{settings.count}-seed{settings.seed}"
        paths = [folder / f"{name}{ending}" for ending in (".png", ".npz", *_own_ending(settings.run))]
    spec = model.spec

    if settings.is_folder:
        return write_images(paths[0], spec.to_array(spec.encode(samples)), classes, spec)

    def write(path: Path) -> None:
        if path.suffix.lower() == ".npz":
            arrays = {"samples": spec.to_array(spec.encode(samples))}
            if classes:
                arrays["labels"] = np.array(classes)
            if numbers is not None:
                arrays["conditions"] = numbers.numpy()
                arrays["condition_names"] = np.array([each.name for each in spec.conditions])
            if settings.pairs:
                noise = SeededNoise.samples(settings.seed, settings.count)
                arrays["noise"] = noise(0, torch.empty(samples.shape)).numpy()
            with open(path, "wb") as file:  # given a path, numpy would add .npz to .NPZ
                np.savez_compressed(file, allow_pickle=False, **arrays)
        elif path.suffix.lower() in TABLES:
            values = spec.to_array(spec.encode(samples))
            table = typed_columns(spec, values.reshape(len(values), -1), columns(spec), classes)
            write_table(path, [*table, *_given(spec, numbers)])
        elif path.suffix.lower() == ".png":
            heads = headings(classes, numbers, model)
            drawn = class_sheet(samples.numpy(), heads, spec) if heads else picture(samples.numpy(), spec)
            drawn.save(path)
        else:
            movie(torch.stack([torch.cat(parts) for _, parts in sorted(frames.items())]).numpy(), spec, path)

    for path in paths:
        write_with(path, write)
    return paths
