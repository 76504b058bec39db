"""Train a model on data of your own: a folder of images, an .npy or .npz array, or a built-in set.

SOURCE is a folder of images (PNG, JPEG, WebP, TIFF), an .npy or .npz file, or one of digits, moons, swiss-roll,
checkerboard, gaussians. Any setting of the recipe can be changed by key=value.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sfumato.errors import InputError

from . import common, runs

if TYPE_CHECKING:
    import torch

    from sfumato.data import Dataset
    from sfumato.training import Options, Trainer, World

EXAMPLES = """\
examples:
  sfumato train photos/ --budget 30m
  sfumato train spectra.npy data.layout=signal --steps 5000
  sfumato train digits --recipe ddpm process.schedule=cosine-betas training.batch=64 --out runs/cosine
  sfumato train --resume runs/photos-ddpm --budget 1h
  torchrun --nproc-per-node 2 -m sfumato train photos/
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
    flag = parser.add_argument
    flag("--checkpoint-every", type=common.seconds, default=60.0, metavar="TIME", help="between checkpoints (1m)")
    flag("--keep-last", type=common.positive, default=2, metavar="N", help="checkpoints to keep beside the best (2)")
    flag("--keep-every", type=common.positive, metavar="IMAGES", help="and the first after every so many images")
    flag(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the network's products (by trial)",
    )
    flag("--threads", type=common.positive, metavar="N", help="on a CPU (by trial)")
    flag(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="by torch.compile, which takes minutes (long runs on a GPU)",
    )
    flag("--micro-batch", type=common.positive, metavar="N", help="samples at a time (as memory holds)")
    flag("--gradient-checkpointing", action="store_true", help="less memory, a third more time, the same result")
    flag("--shard", action="store_true", help="with torchrun: each process keeps a part of every weight")
    flag(
        "--on-nonfinite",
        choices=("stop", "rewind"),
        default="stop",
        help="after a loss that is not finite: stop (the default), or go back a checkpoint and halve the step",
    )
    flag(
        "--timeout", type=common.seconds, default=300.0, metavar="TIME", help="for a silent process of torchrun's (5m)"
    )
    common.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Train, sample, write the report; with torchrun as one of several processes."""
    out = common.Output(args)
    _check(args)
    from sfumato.report import write_report
    from sfumato.runs.folder import RunFolder
    from sfumato.training import joined, signals

    device = common.pick_device(args.device)
    with joined(device, args.timeout) as world:
        begun = _resumed(args, out, device, world) if args.resume else _begun(args, out, device, world)
        trainer, folder = begun.trainer, begun.trainer.run
        reason = runs.train(trainer, out, device, begun.goal)
    if not world.is_main:
        return signals.STATUSES.get(reason, 0)
    page = None
    if reason not in signals.AT_ONCE:
        runs.finish(folder, trainer.averaged, begun.dataset)
        runs.write_card(folder, trainer.averaged, trainer, {})
        page = write_report(RunFolder(folder))
    spent = f"{trainer.steps:,} steps, {trainer.images:,} images, {common.duration(trainer.seconds)} in all"
    out.say(f"{runs.ENDS.get(reason, 'done')} after {spent}")
    out.say(f"model   {folder}")
    if page is not None:
        out.say(f"report  {page}")
    if reason in runs.ENDS:
        out.say(f"go on with: sfumato train --resume {folder}")
    out.result(runs.summary(folder, page, trainer, reason))
    return signals.STATUSES.get(reason, 0)


class _Begun(NamedTuple):
    trainer: "Trainer"
    dataset: "Dataset"
    goal: runs.Goal


def _begun(args: argparse.Namespace, out: common.Output, device: "torch.device", world: "World") -> _Begun:
    from sfumato import recipes
    from sfumato.training import Trainer

    recipe = recipes.read(args.recipe or "ddpm", args.overrides)
    dataset = runs.load(args.source, recipe, out)
    goal = _goal(args) or {"steps": recipe.training.steps}
    with world.raise_together():
        model, folder = runs.place(args.source, recipe, dataset, wanted=args.out)
    folder = Path(world.gather_text(str(folder))[0])
    trainer = Trainer(model, dataset, folder, device, _options(args), world)
    with world.raise_together():
        if world.is_main:
            runs.begin(args.source, trainer, goal)
    return _Begun(trainer, dataset, goal)


def _resumed(args: argparse.Namespace, out: common.Output, device: "torch.device", world: "World") -> _Begun:
    from sfumato.training import Trainer

    folder = args.resume
    model, dataset = runs.reopen(folder, out)
    trainer = Trainer(model, dataset, folder, device, _options(args), world)
    trainer.resume(out.warn)
    goal = _goal(args) or runs.goal_of(folder, trainer.seconds)
    out.say(f"going on with {folder} after {trainer.steps:,} steps")
    if world.is_main:
        for stale in ("results.json", "gallery.json", "gallery.npz"):  # they tell of the weights before
            (folder / stale).unlink(missing_ok=True)
    return _Begun(trainer, dataset, goal)


def _options(args: argparse.Namespace) -> "Options":
    from sfumato.training import Compute, Keep, Options

    return Options(
        checkpoint_every=args.checkpoint_every,
        keep=Keep(args.keep_last, args.keep_every),
        compute=Compute(
            args.micro_batch, args.gradient_checkpointing, args.precision, args.threads, args.shard, args.compile
        ),
        on_nonfinite=args.on_nonfinite,
    )


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
