"""Look at data before training: how it is read, its classes, its values, what may go wrong, and how long a pass takes.

Nothing is trained, and nothing is written but the picture that --out names.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import InspectSettings

from .arguments import add_device, settings_of
from .output import Output

EXAMPLES = """\
examples:
  sfumato inspect photos/
  sfumato inspect photos/ data.size=64x64 --out sheet.png
  sfumato inspect flowers.csv data.labels=species
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    flag = parser.add_argument
    flag("source", metavar="SOURCE", help="the data, as for train")
    flag("overrides", nargs="*", metavar="key=value", help="settings that replace those of the recipe")
    flag("--recipe", help="a preset or a YAML file (default: flow)")
    flag("--out", type=Path, metavar="FILE", help="draw samples of the data into this .png")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Look at the data."""
    out, settings = Output(args), settings_of(InspectSettings, args)
    from sfumato.runs.inspection import inspect

    found = inspect(settings, out.reporter)
    out.say(*found.describe())
    out.result(found.to_dict())
    return 0
