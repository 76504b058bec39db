"""Train a model on your own data: a folder of images, a file of arrays, a table, or a built-in data set.

SOURCE is a folder of images (PNG, JPEG, WebP, TIFF), an .npy or .npz file, a .csv, .tsv or .parquet table, an idx file,
a data set saved by Hugging Face's datasets, or one of digits, moons, swiss-roll, checkerboard, gaussians. Each
key=value changes one setting of the recipe. The run folder holds the model, its checkpoints, samples and a report.
Ctrl-C stops training and keeps a checkpoint.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import TrainSettings

from .arguments import add_device, positive, seconds, settings_of
from .malloc import keep_freed_memory
from .output import Output

EXAMPLES = """\
examples:
  sfumato train photos/ --budget 30m
  sfumato train spectra.npy data.layout=signal --steps 5000
  sfumato train flowers.csv data.labels=species --budget 2m
  sfumato train digits --recipe ddpm process.schedule=cosine-betas training.batch=64 --out runs/cosine
  sfumato train --resume runs/photos-flow --budget 1h
  torchrun --nproc-per-node 2 -m sfumato train photos/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    flag, default = parser.add_argument, TrainSettings
    flag("source", nargs="?", metavar="SOURCE", help="the data to train on")
    flag("overrides", nargs="*", metavar="key=value", help="settings that replace those of the recipe")
    flag("--recipe", help="a preset or a YAML file (default: flow; trees for small tables)")
    flag("--budget", type=seconds, metavar="TIME", help="time for training, samples and report: 90s, 10m, 1h30m")
    flag("--steps", type=positive, metavar="N", help="train until step N (default: the recipe's number of steps)")
    flag("--out", type=Path, metavar="DIR", help="run folder (default: runs/SOURCE-RECIPE)")
    flag(
        "--resume",
        type=Path,
        metavar="RUN",
        help="continue a run from its newest checkpoint; give SOURCE too if the data has moved",
    )
    flag(
        "--checkpoint-every",
        type=seconds,
        default=default.checkpoint_every,
        metavar="TIME",
        help="time between checkpoints (default: 1m)",
    )
    flag(
        "--keep-last",
        type=positive,
        metavar="N",
        help="recent checkpoints to keep besides the best one (default: 2; of a finished run only the newest)",
    )
    flag("--keep-every", type=positive, metavar="IMAGES", help="also keep one checkpoint every IMAGES images")
    flag(
        "--on-nonfinite",
        choices=("stop", "rewind"),
        default=default.on_nonfinite,
        help="after a loss that is not finite: stop, or return to the last checkpoint and halve the step size "
        "(default: stop)",
    )
    flag(
        "--timeout",
        type=seconds,
        default=default.timeout,
        metavar="TIME",
        help="abort if another process does not respond for this long (default: 5m)",
    )
    _add_execution(parser)


def _add_execution(parser: argparse.ArgumentParser) -> None:
    """Where and how fast a step runs; none of it changes what is trained."""
    flag, default = parser.add_argument, TrainSettings
    flag(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default=default.precision,
        help="compute precision (default: auto, chosen by a short benchmark)",
    )
    flag("--threads", type=positive, metavar="N", help="CPU threads (default: chosen by a short benchmark)")
    flag(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="use torch.compile, which takes minutes to start (default: only for long runs on a GPU)",
    )
    flag(
        "--micro-batch",
        type=positive,
        metavar="N",
        help="samples per forward pass (default: as many as fit in memory)",
    )
    flag("--gradient-checkpointing", action="store_true", help="use less memory and a third more time; same result")
    flag("--shard", action="store_true", help="under torchrun: each process stores a slice of every weight")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Train, sample, write the report; under torchrun as one of several processes."""
    out, settings = Output(args), settings_of(TrainSettings, args)
    from sfumato.runs.training import train

    keep_freed_memory()
    found = train(settings, out.reporter, out.began)
    out.say(*found.describe())
    out.result(found.to_dict())
    return found.status
