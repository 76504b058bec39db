"""Train a model on data of your own: a folder of images, an .npy or .npz array, or a built-in set.

SOURCE is a folder of images (PNG, JPEG, WebP, TIFF), an .npy or .npz file, or one of digits, moons, swiss-roll,
checkerboard, gaussians. Any setting of the recipe can be changed by key=value.
"""

import argparse
from pathlib import Path

from sfumato.errors import InputError

from . import common, runs

EXAMPLES = """\
examples:
  sfumato train photos/ --budget 30m
  sfumato train spectra.npy data.layout=signal --steps 5000
  sfumato train digits --recipe ddpm process.schedule=cosine-betas training.batch=64 --out runs/cosine
  sfumato train --resume runs/photos-ddpm --budget 1h
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="what to train on")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings on top of the recipe")
    parser.add_argument("--recipe", help="a preset or a YAML file (default: ddpm)")
    parser.add_argument("--budget", type=common.seconds, metavar="TIME", help="train for this long: 90s, 10m, 1h30m")
    parser.add_argument("--steps", type=common.positive, help="train until this many steps in all")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/SOURCE-RECIPE)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run from its newest checkpoint")
    common.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Train, sample, write the report."""
    out = common.Output(args)
    _check(args)
    from sfumato import recipes
    from sfumato.report import write_report
    from sfumato.training import Trainer

    device = common.pick_device(args.device)
    if args.resume:
        folder = args.resume
        model, dataset = runs.reopen(folder, out)
    else:
        recipe = recipes.read(args.recipe or "ddpm", args.overrides)
        dataset = runs.load(args.source, recipe, out)
        goal = _goal(args) or {"steps": recipe.training.steps}
        folder, model = runs.begin(args.source, recipe, dataset, goal, wanted=args.out)
    trainer = Trainer(model, dataset, folder, device)
    if args.resume:
        trainer.resume(out.warn)
        goal = _goal(args) or runs.goal_of(folder, trainer.seconds)
        out.say(f"going on with {folder} after {trainer.steps:,} steps")
        for stale in ("results.json", "gallery.json", "gallery.npz"):  # they tell of the weights before
            (folder / stale).unlink(missing_ok=True)
    reason = runs.train(trainer, out, device, goal)
    runs.finish(folder, trainer.averaged, dataset)
    runs.write_card(folder, trainer.averaged, trainer, {})
    page = write_report(folder)
    verb = "interrupted" if reason == "interrupted" else "done"
    out.say(
        f"{verb} after {trainer.steps:,} steps, {trainer.images:,} images, {common.duration(trainer.seconds)} in all"
    )
    out.say(f"model   {folder}")
    out.say(f"report  {page}")
    if reason == "interrupted":
        out.say(f"go on with: sfumato train --resume {folder}")
    out.result(runs.summary(folder, page, trainer, reason))
    return 130 if reason == "interrupted" else 0


def _goal(args: argparse.Namespace) -> runs.Goal | None:
    if args.steps and args.budget:
        raise InputError("--steps and --budget: give one, a run ends at one of them")
    return {"steps": args.steps} if args.steps else {"seconds": args.budget} if args.budget else None


def _check(args: argparse.Namespace) -> None:
    if args.resume:
        if args.source or args.out or args.overrides or args.recipe:
            raise InputError("--resume goes on with a run as it is; no SOURCE, key=value, --recipe or --out beside it")
    elif args.source is None:
        raise InputError("SOURCE is missing; give a folder of images, an .npy or .npz file, or a name such as digits")
    elif "=" in args.source and not Path(args.source).exists():
        raise InputError(f"SOURCE is missing before '{args.source}'; write: sfumato train SOURCE {args.source}")
