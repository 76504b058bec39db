"""See it work: train on 1,797 scans of handwritten digits that need no download, sample, and show the result.

Two minutes on a laptop. Ends with the paths of what it made and five lines of results.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from . import common, runs

if TYPE_CHECKING:
    from sfumato.data import Dataset
    from sfumato.evaluation import Gallery, Recognition
    from sfumato.model import Model
    from sfumato.training import Trainer

EXAMPLES = """\
examples:
  sfumato demo
  sfumato demo --budget 5m --out runs/digits
"""

SAMPLES = 512  # that the classifier is asked about


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument(
        "--budget", type=common.seconds, default=80.0, metavar="TIME", help="time to train (default: 80s)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/demo)")
    common.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Train, sample, ask a classifier, write the report, say where everything is."""
    from sfumato import recipes
    from sfumato.files import write_text
    from sfumato.report import write_report
    from sfumato.runs.folder import RunFolder
    from sfumato.training import Trainer, signals

    out = common.Output(args)
    device = common.pick_device(args.device)
    recipe = recipes.read("digits")
    goal: runs.Goal = {"seconds": args.budget}
    dataset = runs.load("digits", recipe, out)
    model, folder = runs.place("digits", recipe, dataset, wanted=args.out, name="demo")
    trainer = Trainer(model, dataset, folder, device)
    runs.begin("digits", trainer, goal)
    reason = runs.train(trainer, out, device, goal)
    if reason in signals.AT_ONCE:
        out.say(f"{runs.ENDS[reason]}; go on with: sfumato train --resume {folder}")
        out.result(runs.summary(folder, None, trainer, reason))
        return signals.STATUSES.get(reason, 0)
    averaged = trainer.averaged
    gallery = runs.finish(folder, averaged, dataset)
    recognition = _recognise(averaged, dataset)
    rows = _results(trainer, gallery, recognition)
    write_text(folder / "results.json", json.dumps({"rows": rows}, indent=2, ensure_ascii=False) + "\n")
    runs.write_card(folder, averaged, trainer, {row["label"]: row["value"] for row in rows[1:]})
    pictures = _pictures(folder, gallery, averaged)
    page = write_report(RunFolder(folder))
    out.say()
    for name, path in (("model", folder), *pictures.items(), ("report", page)):
        out.say(f"{name:<10}{path}")
    out.say()
    for row in rows:
        out.say(f"{row['label'] + ':':<36}{row['value']}")
    if reason != "budget":
        out.say(f"{reason}; go on with: sfumato train --resume {folder}")
    out.result({**runs.summary(folder, page, trainer, reason), "recognition": vars(recognition)})
    return signals.STATUSES.get(reason, 0)


def _recognise(model: "Model", dataset: "Dataset") -> "Recognition":
    from sfumato.data import split
    from sfumato.evaluation import recognise

    assert dataset.labels is not None  # the digits are labelled
    settings = model.recipe.training
    train, held_out = split(len(dataset.values), settings.held_out, settings.seed)
    bar = common.Bar("sampling")
    evaluations = model.sampling.steps * -(-SAMPLES // 256)
    counter = iter(range(1, evaluations + 1))
    samples = model.sample(SAMPLES, seed=1, watch=lambda *_: bar.count(next(counter, evaluations), evaluations))
    bar.close()
    return recognise(
        dataset.values[train], dataset.labels[train], dataset.values[held_out], dataset.labels[held_out], samples
    )


def _results(trainer: "Trainer", gallery: "Gallery", recognition: "Recognition") -> list[dict[str, str]]:
    r = recognition
    return [
        {
            "label": "trained",
            "value": f"{trainer.steps:,} steps, {trainer.images:,} images in {common.duration(trainer.seconds)}",
        },
        {
            "label": "held-out loss (mean over levels)",
            "value": f"{trainer.last_measured:.4f}; on as many training digits {trainer.last_measured_training:.4f}",
        },
        {
            "label": "recognised, mean top probability",
            "value": f"samples {r.sample_confidence:.3f} ± {r.sample_error:.3f}; held-out real digits "
            f"{r.held_out_confidence:.3f} ± {r.held_out_error:.3f} ({r.held_out_accuracy:.1%} of them rightly)",
        },
        {
            "label": "class shares, total variation",
            "value": f"{r.share_distance:.3f} from held-out digits; {r.share_floor:.3f} by chance at these sizes",
        },
        {
            "label": "nearest training digit, median RMS",
            "value": f"samples {gallery.distances.median():.3f}; held-out real digits "
            f"{gallery.held_out_distances.median():.3f}",
        },
    ]


def _pictures(folder: Path, gallery: "Gallery", model: "Model") -> dict[str, Path]:
    from sfumato.files import write_with
    from sfumato.report import movie, picture

    paths = {"samples": folder / "samples" / "samples.png", "movie": folder / "samples" / "forming.gif"}
    paths["samples"].parent.mkdir(exist_ok=True)
    image = picture(gallery.samples.numpy(), model.spec)
    write_with(paths["samples"], image.save)
    assert gallery.trajectory is not None  # the demo's recipe makes a diffusion model
    estimates = gallery.trajectory.x_0.numpy()
    write_with(paths["movie"], lambda beside: movie(estimates, model.spec, beside))
    return paths
