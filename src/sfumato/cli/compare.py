"""Compare recipes on your data: the same network, samples, seed and budget for each; one table and one figure.

Each recipe is trained into DIR/RECIPE, a run as 'train' makes one, and measured: bits per dimension of the same
held-out samples by two routes, with paired differences; how far its samples are from held-out data, beside how far true
ones are. The network is chosen from the data, and so the same for all but hierarchical VAEs. key=value is
for all recipes; a hierarchical VAE takes none of what makes a diffusion model. The same command goes on where it was
interrupted, and recipes may be added to it.
"""

import argparse
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.errors import InputError

from . import begun, common, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from sfumato.data import Dataset
    from sfumato.evaluation.comparison import Row, Yardstick
    from sfumato.recipes import Recipe
    from sfumato.training import Trainer

EXAMPLES = """\
examples:
  sfumato compare photos/ --budget 10m
  sfumato compare moons --recipes ddpm,edm,flow --steps 3000 network.width=128
  sfumato compare digits --recipes ddpm,mhvae,mine.yaml --budget 3m --out runs/three
"""

DEFAULT = "ddpm,ncsn,vp-sde,edm,flow,vdm"
BUDGET = 180.0
SAME = ("network.kind=auto", "network.fourier=false")  # under the user's settings, over those of a recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("source", metavar="SOURCE", help="what to train on, as 'train' takes it")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings on top of every recipe")
    parser.add_argument(
        "--recipes", type=_names, default=DEFAULT, metavar="A,B", help=f"presets or YAML files (default: {DEFAULT})"
    )
    parser.add_argument("--budget", type=common.seconds, metavar="TIME", help="of each recipe: 90s, 10m (default: 3m)")
    parser.add_argument("--steps", type=common.positive, help="of each recipe, instead of a time")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the runs go (default: runs/compare-SOURCE)")
    parser.add_argument(
        "-n", "--count", type=common.positive, default=128, help="held-out samples to score at most (default: 128)"
    )
    common.add_device(parser)


@dataclass(frozen=True)
class Entry:
    """A recipe in the comparison: its name there, its run folder, and what it is."""

    name: str
    folder: Path
    recipe: "Recipe"

    @property
    def record(self) -> Path:
        """Where it is written what was found of it."""
        return self.folder / "comparison.json"


def run(args: argparse.Namespace) -> int:
    """Train and measure each, say who is best."""
    out = common.Output(args)
    if args.steps and args.budget:
        raise InputError("--steps and --budget: give one, each recipe ends at one of them")
    if "=" in args.source and not Path(args.source).exists():
        raise InputError(f"SOURCE is missing before '{args.source}'; write: sfumato compare SOURCE {args.source}")
    device = common.pick_device(args.device)
    recipes = _recipes(args.recipes, args.overrides)
    goal: runs.Goal = {"steps": args.steps} if args.steps else {"seconds": args.budget or BUDGET}
    try:
        return _compare(args, recipes, goal, device, out)
    except KeyboardInterrupt:
        reason = "interrupted"
    except _Interrupted as stopped:
        reason = stopped.reason
    from sfumato.training import signals

    out.say(runs.ENDS[reason])
    out.say(f"go on with: {_command(args)}")
    return signals.STATUSES.get(reason, 0)


class _Interrupted(Exception):
    """Training ended at a signal, all it had done saved."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _compare(
    args: argparse.Namespace, recipes: "dict[str, Recipe]", goal: runs.Goal, device: "torch.device", out: common.Output
) -> int:
    import torch

    from sfumato.data import TOYS
    from sfumato.evaluation.comparison import Yardstick, standings

    first = next(iter(recipes.values()))
    dataset = runs.load(args.source, first, out)
    stem = dataset.spec.source.removesuffix(".npy").removesuffix(".npz") or "data"
    place = args.out or Path("runs") / f"compare-{stem}"
    if place.exists() and not place.is_dir():
        raise InputError(f"--out {place}: is a file; give a folder, or a name that is not taken")
    if (place / "config.json").exists():
        raise InputError(f"--out {place}: is a run or model itself; give another folder, for the runs of a comparison")
    entries = [Entry(name, place / name, recipe) for name, recipe in recipes.items()]
    for entry in entries:  # all is refused that can be, before anything is trained
        _check(entry, args.source, dataset, goal)
    toy = args.source if args.source in TOYS else None
    settings = first.training
    yardstick = Yardstick.of(dataset, settings.held_out, settings.seed, args.count, toy)
    rows = {entry.name: _read(entry, yardstick) for entry in entries}
    missing = [entry for entry in entries if rows[entry.name] is None]
    left = _forecast(missing, yardstick, goal, device)
    if missing:
        out.say(f"comparing {len(entries)} recipes in {place}: about {common.duration(sum(left.values()))}")
    threads = torch.get_num_threads()
    for i, entry in enumerate(entries):
        if rows[entry.name] is not None:
            continue
        rest = common.duration(sum(left.values()))
        out.say(f"{entry.name}, {i + 1} of {len(entries)}; about {rest} to go")
        torch.set_num_threads(threads)  # training leaves what it found best; the next one is to choose among as many
        try:
            rows[entry.name] = _train_and_measure(entry, args.source, yardstick, goal, device, out)
        finally:
            torch.set_num_threads(threads)
        del left[entry.name]
    found = {name: row for name, row in rows.items() if row is not None}
    record = {
        "source": dataset.spec.source,
        "data": {
            "samples": len(dataset),
            "train": len(yardstick.train),
            "held_out": len(yardstick.held_out),
            "fingerprint": dataset.spec.fingerprint,
        },
        "goal": goal,
        "settings": args.overrides,
        "seed": yardstick.seed,
        "scored": len(yardstick.rows),
        "scored_samples": yardstick.rows.tolist(),
        "density": dataset.spec.continuous,
        "recipes": list(found.values()),
        "standings": standings(found),
        **_circumstances(threads),
    }
    from .compared import lines

    out.say()
    for line in lines(record):
        out.say(line)
    out.say()
    files = _write(record, place, entries, dataset)
    for path in files:
        out.say(str(path))
    out.result({**record, "files": [str(path) for path in files]})
    return 0


def _recipes(names: "Sequence[str]", overrides: "Sequence[str]") -> "dict[str, Recipe]":
    """The recipes by their names in the comparison, all on one network, one data set and one seed."""
    from sfumato import recipes
    from sfumato.recipes.reading import presets

    unknown = [name for name in names if not name.endswith((".yaml", ".yml")) and name not in presets()]
    if unknown:
        listed = ", ".join(f"'{name}'" for name in unknown)
        raise InputError(f"--recipes: no preset is called {listed}; choose from {', '.join(presets())}, or a YAML file")
    found: dict[str, Recipe] = {}
    used: set[str] = set()
    for name in names:
        label = _label(name)
        recipe = recipes.read(name)
        own = [text for text in overrides if recipes.applies(recipe, text)]
        used |= set(own)
        try:
            found[label] = recipes.override(recipe, [*(text for text in SAME if recipes.applies(recipe, text)), *own])
        except InputError as error:
            raise InputError(f"{label}: {str(error).removeprefix('recipe: ')}") from None
    for text in overrides:
        if text not in used:
            kind = "hierarchical VAE" if text.startswith("hierarchy") else "diffusion model"
            raise InputError(f"{text}: none of these recipes is a {kind}; leave it out")
    first, *others = found
    for other in others:
        for key in ("data", "training.seed", "training.held_out"):
            ours, theirs = (_at(found[label], key) for label in (first, other))
            if ours != theirs:
                raise InputError(
                    f"--recipes: {first} and {other} differ in {key}; give it as key=value for all of them"
                )
    return found


def _at(recipe: "Recipe", key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(recipe, section), name) if name else getattr(recipe, section)


def _check(entry: Entry, source: str, dataset: "Dataset", goal: runs.Goal) -> None:
    """Refuse a recipe that this data cannot be trained with, and a run folder that was begun otherwise."""
    from sfumato.model import Model

    try:
        model = Model.fresh(entry.recipe, dataset.spec)
        model.recipe.build_loss(dataset.spec)
        if model.recipe.has_process:
            model.tableau()
    except InputError as error:
        raise InputError(f"{entry.name}: {error}") from None
    if entry.folder.exists() and not begun.bare(entry.folder):
        begun.same(entry.folder, model, source, goal)


def _read(entry: Entry, yardstick: "Yardstick") -> "Row | None":
    """The row that was written of this recipe, where it was measured like this."""
    found = _found(entry)
    return found["row"] if found.get("row") and found.get("under") == _under(entry, yardstick) else None


def _found(entry: Entry) -> dict[str, Any]:
    try:
        found = json.loads(entry.record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _under(entry: Entry, yardstick: "Yardstick") -> dict[str, Any]:
    """What a row holds for: these samples and these weights."""
    from sfumato.files import digest

    weights = entry.folder / "model.safetensors"
    return {"scored": len(yardstick.rows), "weights": digest(weights) if weights.exists() else None}


def _forecast(
    entries: "Sequence[Entry]", yardstick: "Yardstick", goal: runs.Goal, device: "torch.device"
) -> dict[str, float]:
    """Seconds for each that is to be trained or measured; a rough figure."""
    from sfumato.evaluation.comparison import expected
    from sfumato.model import Model

    seconds = {}
    for entry in entries:
        model = Model.fresh(entry.recipe, yardstick.dataset.spec)
        model.module.to(device).eval()
        seconds[entry.name] = expected(model, yardstick, int(goal.get("steps", 0))) + goal.get("seconds", 0)
    return seconds


def _train_and_measure(
    entry: Entry, source: str, yardstick: "Yardstick", goal: runs.Goal, device: "torch.device", out: common.Output
) -> "Row":
    """A recipe's row, found and written. Raises _Interrupted when training was, with a checkpoint left."""
    from sfumato.evaluation.comparison import PARTS, measure
    from sfumato.files import write_text
    from sfumato.model import Model
    from sfumato.report import write_report
    from sfumato.runs.folder import RunFolder
    from sfumato.training import NonFiniteError

    dataset = yardstick.dataset
    trainer = _trainer(entry, source, dataset, goal, device, out)
    about = {"recipe": entry.name, "run": str(entry.folder), "parameters": trainer.model.num_parameters}

    def keep(**found: Any) -> None:
        write_text(entry.record, json.dumps(found, indent=2) + "\n")

    try:
        training = _found(entry).get("training") or _train(trainer, goal, device, out)
    except NonFiniteError as error:
        nothing = dict.fromkeys((*PARTS, "recognition"))
        row: Row = {**about, "training": _spent(trainer), **nothing, "reasons": {"training": str(error)}}
        keep(training=row["training"], under=_under(entry, yardstick), row=row)
        out.warn(f"{entry.name}: {error}")
        return row
    keep(training=training)
    trainer.last_measured = training["held_out_loss"]
    model = Model.from_pretrained(entry.folder, device)
    try:
        runs.finish(entry.folder, model, dataset)
    except FloatingPointError as error:
        out.warn(f"{entry.name}: {error}")
    bars = common.Bars()
    try:
        row = {**about, "training": training, **measure(model, yardstick, bars.count)}
    finally:
        bars.close()
    said = _told(row)
    results = [{"label": label, "value": value} for label, value in said.items()]
    write_text(entry.folder / "results.json", json.dumps({"rows": results}, indent=2, ensure_ascii=False) + "\n")
    runs.write_card(entry.folder, model, trainer, said)
    write_report(RunFolder(entry.folder))
    keep(training=training, under=_under(entry, yardstick), row=row)
    return row


def _trainer(
    entry: Entry, source: str, dataset: "Dataset", goal: runs.Goal, device: "torch.device", out: common.Output
) -> "Trainer":
    """Where training stands: at its newest checkpoint, or at the beginning."""
    import shutil

    from sfumato.model import Model
    from sfumato.training import Trainer

    if entry.folder.exists() and not begun.bare(entry.folder):
        trainer = Trainer(Model.fresh(entry.recipe, dataset.spec), dataset, entry.folder, device)
        trainer.resume(out.warn)
        return trainer
    if entry.folder.exists():  # nothing had been trained yet
        shutil.rmtree(entry.folder)
    model, folder = runs.place(source, entry.recipe, dataset, wanted=entry.folder)
    trainer = Trainer(model, dataset, folder, device)
    runs.begin(source, trainer, goal)
    return trainer


def _train(trainer: "Trainer", goal: runs.Goal, device: "torch.device", out: common.Output) -> dict[str, Any]:
    from sfumato.training import signals

    if "seconds" in goal:
        goal = {"seconds": max(goal["seconds"] - trainer.seconds, 0.0)}
    if trainer.images:
        out.say(f"going on with {trainer.run} after {trainer.steps:,} steps")
    reason = runs.train(trainer, out, device, goal)
    if reason in signals.STOPS.values():
        raise _Interrupted(reason)
    return _spent(trainer)


def _spent(trainer: "Trainer") -> dict[str, Any]:
    import torch

    return {
        "steps": trainer.steps,
        "images": trainer.images,
        "seconds": round(trainer.seconds, 3),
        "images_per_second": trainer.images / trainer.seconds if trainer.seconds else 0.0,
        "held_out_loss": trainer.last_measured,
        "threads": torch.get_num_threads(),
        "device": trainer.engine.device.type,
    }


def _told(row: "Row") -> dict[str, str]:
    """What was measured, for the model card and the report."""
    said = {}
    for part, label in (("bound", "bits/dim of held-out data, the bound"), ("flow", "bits/dim, along the flow")):
        if (cell := row[part]) is not None:
            error = "" if cell["standard_error"] is None else f" ± {cell['standard_error']:.4f}"
            said[label] = f"{cell['bits_per_dim']:.4f}{error}"
    if (cell := row["samples"]) is not None and cell["ratio"] is not None:
        said["distance of samples, over that of true ones"] = f"{cell['ratio']:.3f} ± {cell['ratio_error']:.3f}"
    return said


def _circumstances(threads: int) -> dict[str, Any]:
    import os
    import platform

    import torch

    from sfumato._version import __version__

    return {
        "versions": {"sfumato": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "threads": threads,
    }


def _write(record: dict[str, Any], place: Path, entries: "Sequence[Entry]", dataset: "Dataset") -> list[Path]:
    import numpy as np

    from sfumato.files import write_text, write_with
    from sfumato.report.charts.compare import comparison_figure

    galleries = {}
    for entry in entries:
        if (entry.folder / "gallery.npz").exists():
            with np.load(entry.folder / "gallery.npz", allow_pickle=False) as arrays:
                galleries[entry.name] = arrays["samples"], arrays["real"]
    real = next((real for _, real in galleries.values()), None)
    figure = comparison_figure(record, {name: made for name, (made, _) in galleries.items()}, real, dataset.spec)
    numbers, picture = place / "comparison.json", place / "comparison.png"
    write_text(numbers, json.dumps(record, indent=2) + "\n")
    write_with(picture, lambda beside: figure.save(beside, "PNG"))
    return [picture, numbers]


def _command(args: argparse.Namespace) -> str:
    """The command line that goes on."""
    words = ["sfumato", "compare", args.source, "--recipes", ",".join(args.recipes)]
    if args.steps:
        words += ["--steps", str(args.steps)]
    if args.budget:
        words += ["--budget", f"{args.budget:g}s"]
    if args.out:
        words += ["--out", str(args.out)]
    if args.count != 128:
        words += ["-n", str(args.count)]
    if args.device != "auto":
        words += ["--device", args.device]
    return shlex.join([*words, *args.overrides])


def _label(name: str) -> str:
    """What a recipe is called in the comparison: a file by its stem."""
    return Path(name).stem if name.endswith((".yaml", ".yml")) else name


def _names(text: str) -> list[str]:
    """Names of recipes, for argparse."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"'{text}' names no recipe; write ddpm,flow")
    labels = [_label(name) for name in names]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise argparse.ArgumentTypeError(f"'{twice}' comes twice; name each recipe once")
    return names
