"""The life of a run, shared by the verbs: read the data, make the folder, train, finish with samples and a report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import InputError

from .common import Bar, Output, duration

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


def begin(source: str, recipe: "Recipe", dataset: "Dataset", wanted: Path | None) -> "tuple[Path, Model]":
    """The folder of a new run (``wanted``, or runs/SOURCE-RECIPE) and its untrained model."""
    import torch

    from sfumato.files import write_text
    from sfumato.model import Model
    from sfumato.numerics.random import derive

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.training.seed, "weights"))
        model = Model.fresh(recipe, dataset.spec)
    recipe.build_loss()  # refuses a bad combination before a folder is made
    folder = _new_folder(wanted, dataset.spec.source, recipe.name)
    origin = str(Path(source).resolve()) if Path(source).exists() else source
    write_text(folder / "run.json", json.dumps({"source": origin}, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "config.json", json.dumps(model.config(), indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "README.md", model.card())
    return folder, model


def reopen(folder: Path, out: Output) -> "tuple[Model, Dataset]":
    """The model of a run, its weights not loaded, and its data. Raises InputError when the data has changed."""
    from sfumato.model import Model, read_config
    from sfumato.recipes.reading import validate

    config = read_config(folder)
    recipe = validate(config["recipe"], str(folder / "config.json"))
    source = _source(folder)
    dataset = load(source, recipe, out)
    if dataset.spec.fingerprint != config["data"].get("fingerprint"):
        raise InputError(f"{source}: the data has changed since {folder} began; restore it, or train afresh")
    return Model.fresh(recipe, dataset.spec), dataset


def train(
    trainer: "Trainer", out: Output, device: "torch.device", *, steps: int | None = None, seconds: float | None = None
) -> str:
    """Train until a limit, saying what and drawing a bar. Returns why it ended."""
    model = trainer.model
    check = model.denoiser.process.check_prior(model.spec.second_moment)
    if check.warning:
        out.warn(check.warning)
    goal = duration(seconds) if seconds else f"{steps or trainer.settings.steps:,} steps"
    out.say(
        f"training {model.recipe.name} on {model.spec.source}: {model.num_parameters:,} parameters, "
        f"{len(trainer.values):,} samples, {goal}, {device.type}"
    )
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


def _source(folder: Path) -> str:
    path = folder / "run.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["source"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: missing or damaged; give a run folder that 'sfumato train' made") from None


def _new_folder(wanted: Path | None, source: str, recipe: str) -> Path:
    if wanted is None:
        stem = Path("runs") / f"{Path(source).stem or 'data'}-{recipe}"
        wanted, n = stem, 2
        while wanted.exists():
            wanted, n = stem.with_name(f"{stem.name}-{n}"), n + 1
    elif wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise InputError(f"--out {wanted}: exists and is not an empty folder; choose another, or --resume {wanted}")
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted
