"""The life of a run: claim a folder, start, train to the goal, finish with samples, a model card and a report."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from sfumato import kinds
from sfumato.allowance import ENDLESS, Allowance
from sfumato.data import TABLES, Dataset, split
from sfumato.denoisers import NetworkDenoiser
from sfumato.errors import InputError
from sfumato.evaluation import Gallery, gallery_evaluations, make_gallery
from sfumato.files import write_text
from sfumato.generative_model import GenerativeModel
from sfumato.model_folder import write_config
from sfumato.numerics.random import derive
from sfumato.recipes import Recipe
from sfumato.reporting import SILENT, Reporter, duration
from sfumato.training import Trainer, TrainingProgress, autotune, memory
from sfumato.world import ALONE, World

from .folder import Origin, RunFolder
from .outputs import require_writable_run
from .settings import Goal
from .sources import origin_of, own_data

ENDS = {"interrupted": "interrupted", "terminated": "ended by SIGTERM", "asked": "ended by SIGUSR1"}
"""How messages name the end of a training by a signal."""

REPORT = 4.0  # seconds of a processor for the report page
REPORT_PART = 0.2  # of a budget, at most, for the same
SAMPLING_PART = 0.07  # of a budget, at most, for the samples of the report

_FITTED_SAMPLES = 20_000  # that a mixture is fitted to, at most: seconds
_FITTED_NUMBERS = 60_000_000  # of their values, at most: 240 MB
_BYTES_PER_SAMPLE = 32  # of a batch, at least: the index of a sample, its key and its time


def untrained(source: str, recipe: Recipe, dataset: Dataset) -> GenerativeModel:
    """The model that training starts from; its weights are a function of the recipe's seed.

    Raises:
        InputError: the recipe cannot be built for this data, cannot be sampled, or there are too few samples.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.training.seed, "weights"))
        model = kinds.fresh(recipe, dataset.spec)
    batch, room = recipe.training.batch_for(dataset.spec), memory.free(torch.device("cpu"))
    if room is not None and batch * _BYTES_PER_SAMPLE > room:
        raise InputError(
            f"training.batch: {batch:,} is more than this machine can hold; give at most {room // _BYTES_PER_SAMPLE:,}"
        )
    if len(dataset) < 2:
        raise InputError(f"{source}: holds 1 sample; give at least 2, one to train on and one to hold out")
    try:
        model.plan()
    except InputError as error:
        raise InputError(f"sampling.steps: {error}") from None
    return model


def fit_base(model: GenerativeModel, dataset: Dataset, world: World = ALONE, reporter: Reporter = SILENT) -> None:
    """Fit the mixture of an ``untrained`` model, if it has one; all processes call it.

    The first process fits it to samples that are not held out, and the others get it.
    """
    base = model.denoiser.base if isinstance(model.denoiser, NetworkDenoiser) else None
    if base is None:
        return
    if world.is_main:
        settings = model.recipe.training
        source, (training, _) = (
            dataset.samples(torch.device("cpu")),
            split(len(dataset), settings.held_out, settings.seed),
        )
        most = max(_FITTED_NUMBERS // math.prod(dataset.spec.model_shape), 1)
        seed = derive(settings.seed, "base")
        order = torch.randperm(len(training), generator=torch.Generator().manual_seed(seed))
        with reporter.task("fitting a mixture of Gaussians"):
            samples = source.take(training[order[: min(most, _FITTED_SAMPLES)].sort().values])
            base.fit(samples.values, samples.labels, seed)
        components, directions = base.centres.shape
        gaussians = "1 Gaussian" if components == 1 else f"a mixture of {components} Gaussians"
        reporter.info(f"fitted {gaussians} in {directions} principal directions; base=none leaves it out")
    for buffer in base.buffers():
        world.sum(buffer if world.is_main else buffer.zero_())


def default_name(dataset: Dataset, recipe: Recipe) -> str:
    """The default name of a run's folder: SOURCE-RECIPE."""
    return f"{stem_of(dataset)}-{recipe.name}"


def stem_of(dataset: Dataset) -> str:
    """The name of the source without its ending."""
    source = dataset.spec.source
    ending = next((ending for ending in (".npy", ".npz", *TABLES) if source.endswith(ending)), "")
    return source.removesuffix(ending) or "data"


@contextmanager
def claimed(wanted: Path | None, name: str) -> Iterator[RunFolder]:
    """Create a folder for a new run; if the context raises before anything is written, the folder is removed.

    No other process gets the same folder: its subfolder for checkpoints is the claim, which only one process can make.

    Arguments:
        wanted: the folder; it may exist if it is empty.
        name: without ``wanted``, the folder is runs/NAME, or the first of runs/NAME-2, ... that does not exist.

    Raises:
        InputError: ``wanted`` is taken, or the folder cannot be made.
    """
    path, made = _claim(wanted, name)
    try:
        yield RunFolder(path)
    except BaseException:
        for folder in (RunFolder(path).checkpoints, *made):
            with suppress(OSError):  # not empty, so it is in use
                folder.rmdir()
        raise


def _claim(wanted: Path | None, name: str) -> tuple[Path, list[Path]]:
    """The folder, and the folders that did not exist before, innermost first."""
    require_free(wanted)
    stem = wanted or Path("runs") / name
    made = [path for path in (stem, *stem.parents) if not path.exists()]
    path, n = stem, 1
    while True:
        try:
            path.mkdir(parents=True, exist_ok=wanted is not None)
            RunFolder(path).checkpoints.mkdir()
            return path, made if path == stem else [path, *made[1:]]
        except FileExistsError:  # another process may have been faster
            if wanted is not None:
                raise InputError(f"--out {wanted}: another process has just taken it; choose another") from None
            n += 1
            path = stem.with_name(f"{stem.name}-{n}")
        except OSError as error:
            raise _not_writable(path, error) from None


def require_free(wanted: Path | None) -> None:
    """Check that a run may be started in the folder ``wanted``: it does not exist, or is empty. None is in runs/.

    Raises:
        InputError: it is taken, is the name of a table, or cannot be written to.
    """
    if wanted is not None and wanted.suffix.lower() in TABLES:
        raise InputError(f"--out {wanted}: is the name of a file, and a folder is written; leave out {wanted.suffix}")
    if wanted is not None and wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        resumed = f", or continue it: sfumato train --resume {wanted}" if RunFolder(wanted).config_file.exists() else ""
        raise InputError(f"--out {wanted}: exists and is not an empty folder; choose another{resumed}")
    require_writable_run(wanted or Path("runs"), "choose another with --out")


def _not_writable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written ({error.strerror}); choose another with --out")


def begin(source: str, folder: RunFolder, model: GenerativeModel, goal: Goal | None) -> None:
    """Write the files of a run that has not trained yet. Trees have no goal.

    Raises:
        InputError: the disk refuses.
    """
    try:
        folder.write_origin(Origin(origin_of(source), goal))
        write_config(folder.path, model.config())
        write_text(folder.card, model.card())
    except OSError as error:
        raise _not_writable(folder.path, error) from None


def reopen(folder: RunFolder, reporter: Reporter = SILENT, moved: str | None = None) -> tuple[GenerativeModel, Dataset]:
    """The model of a run, its weights not loaded, and its data, which may have ``moved``.

    Raises:
        InputError: the folder holds no run, or its data is gone or has changed.
    """
    dataset = own_data(folder, reporter, moved)
    return kinds.fresh(folder.recipe(), dataset.spec), dataset


def remaining_goal(folder: RunFolder, seconds: float, images: int) -> Goal:
    """The rest of the goal that a run was started with, after ``seconds`` of training and so many ``images``.

    Raises:
        InputError: the run names no goal, or has reached it.
    """
    goal = folder.origin().goal
    if goal is None:
        raise InputError(f"{folder.origin_file}: names no goal; add --steps or --budget")
    left = goal.after(seconds)
    # A part of a budget goes into what is no training.
    spent = folder.ended_by("budget") == images
    if left.seconds is not None and (left.seconds < 1 or spent):
        raise InputError(f"{folder}: has used up its {goal}; add --budget or --steps to train on")
    return left


def train_to(
    trainer: Trainer, goal: Goal, reporter: Reporter = SILENT, allowance: Allowance = ENDLESS, then: float = 0.0
) -> str:
    """Train until the goal, and report it. Returns why it ended, as ``Trainer.train`` does.

    Arguments:
        trainer: the trainer.
        goal: when to end.
        reporter: receives facts, progress, and an answer to Ctrl-C.
        allowance: the time until the end of a budget, of which some is left for samples; without a limit, the goal is
            all for training.
        then: seconds of the allowance that are left for work after the samples.
    """
    model, engine = trainer.model, trainer.engine
    if model.denoiser is not None:
        check = model.denoiser.process.check_prior(model.spec.second_moment)
        if check.warning:
            reporter.warn(check.warning)
    to_go = None if goal.steps is None else goal.steps - trainer.steps
    with reporter.task("preparing"):
        chosen = autotune.prepare(engine, to_go, allowance.left() if allowance.limited else goal.seconds)
    processes = f", {trainer.world.size} processes" if trainer.world.size > 1 else ""
    reporter.info(
        f"training {model.recipe.name} on {model.spec.source}: {model.num_parameters:,} parameters, "
        f"{len(engine.data):,} samples, {goal}, {engine.device.type}{processes}, {chosen}"
    )
    if trainer.world.is_main and engine.device.type == "cpu":
        trainer.run.write_measurement("threads", {"threads": chosen.threads, "among": engine.max_threads})
    split = "" if engine.micro_batch is None else f", {engine.micro_batch} samples per forward pass"
    time = "" if to_go is None else f", about {duration(autotune.seconds_per_step(engine) * max(to_go, 0))}"
    memory = autotune.bytes_needed(engine) / 2**20
    reporter.info(f"needs about {memory:,.0f} MiB besides the data{time}; batch size {engine.batch}{split}")
    seconds = allowance.left() if allowance.limited else goal.seconds
    after = _after(trainer, seconds or 0.0, then) if allowance.limited else (lambda seconds_per_evaluation: 0.0)
    with reporter.task("training") as task:

        def watch(progress: TrainingProgress) -> None:
            text = progress.phase
            if text == "training":
                speed = f"{progress.images_per_second:,.0f} {model.spec.layout.noun}/s"
                text = f"step {progress.step:,}  loss {progress.loss:.4f}  {speed}"
            if allowance.limited:
                task.update(1 - allowance.left() / (seconds or math.inf), text, allowance.left())
            else:
                task.update(progress.fraction, text, progress.seconds_left)

        def answer(reason: str, seconds: float) -> None:
            if reason == "interrupted":
                reporter.info(f"finishing, about {duration(max(seconds, 1))}; Ctrl-C again to stop now")

        reason = trainer.train(goal.steps, seconds, watch, after=after, answer=answer)
    if reason not in ENDS:
        trainer.thin_checkpoints()
    return reason


def _after(trainer: Trainer, seconds: float, then: float) -> Callable[[float], float]:
    """Seconds of a budget for samples and what is done ``then``, by the seconds that an evaluation takes."""
    evaluations = gallery_evaluations(trainer.model)
    return lambda seconds_per_evaluation: then + min(evaluations * seconds_per_evaluation, SAMPLING_PART * seconds)


def report_time(seconds: float, slowness: float) -> float:
    """The seconds of a budget that the report page gets.

    Arguments:
        seconds: the budget.
        slowness: the time that work takes over the time that the processor works on it; above 1 on a busy machine.
    """
    return min(REPORT * max(slowness, 1.0), REPORT_PART * seconds)


def finish(
    folder: RunFolder,
    model: GenerativeModel,
    dataset: Dataset,
    reporter: Reporter = SILENT,
    allowance: Allowance = ENDLESS,
    then: float = 0.0,
) -> Gallery:
    """Draw the samples for the report.

    Arguments:
        folder: the run.
        model: its model.
        dataset: its data.
        reporter: receives the progress.
        allowance: the time for it.
        then: the seconds of work that follows it.
    """
    with reporter.task("sampling") as task:

        def progress(done: int, total: int) -> None:
            left = allowance.left() + then if allowance.limited else None
            task.update(done / total, f"{done:,}/{total:,} evaluations", left)

        return make_gallery(model, dataset, folder, progress=progress, allowance=allowance)
