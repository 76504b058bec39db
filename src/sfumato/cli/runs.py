"""The life of a run, shared by the verbs: read the data, make the folder, train, finish with samples and a report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.errors import InputError

from .common import Bar, Output, duration

Goal = dict[str, int | float]
"""``{"steps": N}``, in all, or ``{"seconds": S}``."""

ENDS = {"interrupted": "interrupted", "terminated": "ended by SIGTERM", "asked": "ended by SIGUSR1"}
"""What is said of a training that a signal ended."""

if TYPE_CHECKING:
    import torch

    from sfumato.data import Dataset
    from sfumato.evaluation import Gallery
    from sfumato.model import Model
    from sfumato.recipes import Recipe
    from sfumato.training import Progress, Trainer


def load(source: str, recipe: "Recipe", out: Output) -> "Dataset":
    """Read ``source``, and say how it was read and what was left out."""
    from sfumato import data

    bar = Bar("reading")
    try:
        dataset = data.load(source, recipe.data.options(), progress=bar.count)
    finally:
        bar.close()
    for note in dataset.notes:
        out.say(note)
    for path, reason in dataset.skipped[:10]:
        out.warn(f"skipped {path}: {reason}")
    if len(dataset.skipped) > 10:
        out.warn(f"skipped {len(dataset.skipped) - 10} more; data.unreadable=stop makes them an error")
    return dataset


def place(
    source: str, recipe: "Recipe", dataset: "Dataset", *, wanted: Path | None = None, name: str | None = None
) -> "tuple[Model, Path]":
    """An untrained model, and where its run may be: ``wanted``, or runs/``name``, or runs/SOURCE-RECIPE.

    Raises InputError where the one or the other cannot be. Makes no folder yet.
    """
    model = untrained(recipe, dataset)
    _refuse(model, dataset, source)
    default = f"{dataset.spec.source.removesuffix('.npy').removesuffix('.npz') or 'data'}-{recipe.name}"
    return model, _new_folder(wanted, name or default)


def begin(source: str, trainer: "Trainer", goal: Goal) -> None:
    """Make the folder of a run, once nothing is left that could be refused but by the disk. Raises InputError then."""
    from sfumato.data import BUILT_IN
    from sfumato.files import write_text

    folder, model = trainer.run, trainer.model
    origin = source if source in BUILT_IN else str(Path(source).expanduser().resolve())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "run.json", json.dumps({"source": origin, "goal": goal}, indent=2) + "\n")
        write_text(folder / "config.json", json.dumps(model.config(), indent=2, ensure_ascii=False) + "\n")
        write_text(folder / "README.md", model.card())
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another with --out") from None


def untrained(recipe: "Recipe", dataset: "Dataset") -> "Model":
    """The model that training begins with: its weights are a function of the recipe's seed."""
    import torch

    from sfumato.model import Model
    from sfumato.numerics.random import derive

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.training.seed, "weights"))
        return Model.fresh(recipe, dataset.spec)


def _refuse(model: "Model", dataset: "Dataset", source: str) -> None:
    if len(dataset) < 2:
        raise InputError(f"{source}: holds 1 sample; give at least 2, one to train on and one to hold out")
    if not model.recipe.has_process:
        return
    try:
        model.tableau()
    except InputError as error:
        raise InputError(f"sampling.steps: {error}") from None


def goal_of(folder: Path, spent: float) -> Goal:
    """The goal that a run was begun with, less the seconds ``spent``. Raises InputError when none is left."""
    goal = _run_json(folder).get("goal")
    if not isinstance(goal, dict) or len(goal) != 1 or not isinstance(next(iter(goal.values())), (int, float)):
        raise InputError(f"{folder / 'run.json'}: names no goal; say how long to go on with --steps or --budget")
    if "seconds" not in goal:
        return goal
    left = goal["seconds"] - spent
    if left < 1:
        raise InputError(f"{folder}: has used up its {duration(goal['seconds'])}; give --budget or --steps to go on")
    return {"seconds": left}


def reopen(folder: Path, out: Output) -> "tuple[Model, Dataset]":
    """The model of a run, its weights not loaded, and its data. Raises InputError when the data has changed."""
    from sfumato.model import Model, read_config
    from sfumato.recipes.reading import validate

    dataset = own_data(folder, out)
    recipe = validate(read_config(folder)["recipe"], str(folder / "config.json"))
    return Model.fresh(recipe, dataset.spec), dataset


def own_data(folder: Path, out: Output | None) -> "Dataset":
    """The data that a run was trained on. Raises InputError when it is gone, has changed, or the run names none."""
    from sfumato import data
    from sfumato.model import read_config
    from sfumato.recipes.reading import validate

    config = read_config(folder)
    recipe = validate(config["recipe"], str(folder / "config.json"))
    source = _source(folder)
    dataset = load(source, recipe, out) if out else data.load(source, recipe.data.options())
    if dataset.spec.fingerprint != config["data"].get("fingerprint"):
        raise InputError(f"{source}: the data has changed since {folder} began; restore it, or train afresh")
    return dataset


def like(source: str, model: "Model", out: Output) -> "Dataset":
    """Another data set, read as samples of the kind that ``model`` was trained on; a toy's are fresh ones."""
    from sfumato import data

    options = model.recipe.data.options()
    path = Path(source).expanduser()
    options = data.DataOptions(
        layout="auto" if path.is_dir() or source in data.BUILT_IN else model.spec.layout.name,
        size=options.size if path.is_dir() else None,
        key=options.key if path.suffix.lower() == ".npz" else None,
        unreadable=options.unreadable,
        count=options.count,
        seed=options.seed + 1,
    )
    bar = Bar("reading")
    try:
        dataset = data.load(source, options, progress=bar.count)
    finally:
        bar.close()
    if dataset.skipped:
        out.warn(f"skipped {len(dataset.skipped)} unreadable files of {source}")
    return dataset


def train(trainer: "Trainer", out: Output, device: "torch.device", goal: Goal) -> str:
    """Train until the goal, saying what and drawing a bar. Returns why it ended."""
    from sfumato.training import autotune

    steps = int(goal["steps"]) if "steps" in goal else None
    seconds = goal.get("seconds")
    model = trainer.model
    if model.recipe.has_process:
        check = model.denoiser.process.check_prior(model.spec.second_moment)
        if check.warning:
            out.warn(check.warning)
    limit = f"{steps:,} steps" if seconds is None else duration(seconds)
    engine = trainer.engine
    way = autotune.prepare(engine, None if steps is None else steps - trainer.steps, seconds)
    processes = f", {trainer.world.size} processes" if trainer.world.size > 1 else ""
    out.say(
        f"training {model.recipe.name} on {model.spec.source}: {model.num_parameters:,} parameters, "
        f"{len(engine.data):,} samples, {limit}, {device.type}{processes}, {way}"
    )
    each, needed = autotune.forecast(engine)
    parts = "" if engine.micro_batch is None else f", {engine.micro_batch} samples at a time"
    time = "" if steps is None else f" and {duration(each * max(steps - trainer.steps, 0))}"
    out.say(f"it will take about {needed / 2**20:,.0f} MiB beside the data{time}; batches of {engine.batch}{parts}")
    bar = Bar("training")

    def watch(progress: "Progress") -> None:
        text = f"step {progress.step:,}  loss {progress.loss:.4f}  {progress.images_per_second:,.0f} images/s"
        bar.update(progress.fraction, text, progress.seconds_left)

    try:
        return trainer.train(steps, seconds, watch)
    finally:
        bar.close()


def finish(folder: Path, model: "Model", dataset: "Dataset") -> "Gallery":
    """Sample for the report."""
    from sfumato.evaluation import make_gallery

    bar = Bar("sampling")
    try:
        return make_gallery(model, dataset, folder, progress=bar.count)
    finally:
        bar.close()


def write_card(folder: Path, model: "Model", trainer: "Trainer", measured: Mapping[str, str]) -> None:
    """The model card, with what is known of the training on top of what was ``measured``."""
    from sfumato.files import write_text

    facts = {"images seen": f"{trainer.images:,}", "training time": duration(trainer.seconds)}
    if trainer.last_measured is not None:
        facts["held-out loss"] = f"{trainer.last_measured:.4f}"
    write_text(folder / "README.md", model.card({**facts, **measured}))


def summary(folder: Path, page: Path | None, trainer: "Trainer", reason: str) -> dict[str, Any]:
    """What --json says of a training."""
    return {
        "run": str(folder),
        "report": None if page is None else str(page),
        "stopped": reason,
        "steps": trainer.steps,
        "images": trainer.images,
        "seconds": round(trainer.seconds, 3),
        "held_out_loss": trainer.last_measured,
    }


def _source(folder: Path) -> str:
    source = _run_json(folder).get("source")
    if not isinstance(source, str):
        raise InputError(f"{folder / 'run.json'}: names no source; train afresh with --out")
    return source


def _run_json(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError
    except (OSError, ValueError):
        raise InputError(f"{path}: missing or damaged; give a run folder that 'sfumato train' made") from None
    return data


def _new_folder(wanted: Path | None, name: str) -> Path:
    if wanted is None:
        stem = Path("runs") / name
        wanted, n = stem, 2
        while wanted.exists():
            wanted, n = stem.with_name(f"{stem.name}-{n}"), n + 1
    elif wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise InputError(f"--out {wanted}: exists and is not an empty folder; choose another, or --resume {wanted}")
    return wanted
