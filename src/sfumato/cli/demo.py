"""See it work: train on 1,797 scans of handwritten digits that need no download, sample, and show the result.

Takes two minutes on a laptop. At the end it prints the paths of the files and five lines of results.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import DemoSettings

from .arguments import add_device, seconds, settings_of
from .malloc import keep_freed_memory
from .output import Output

EXAMPLES = """\
examples:
  sfumato demo
  sfumato demo --budget 5m --out runs/digits
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument(
        "--budget",
        type=seconds,
        default=DemoSettings.budget,
        metavar="TIME",
        help="training time: 90s, 10m, 1h30m (default: 80s)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/demo)")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Train, sample, ask a classifier, write the report."""
    out, settings = Output(args), settings_of(DemoSettings, args)
    from sfumato.runs.demo import demo

    keep_freed_memory()
    found = demo(settings, out.reporter)
    out.say(*found.describe())
    out.result(found.to_dict())
    return found.training.status
