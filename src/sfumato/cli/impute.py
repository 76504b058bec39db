"""Fill the gaps of a table: once with the best guess, and several times with draws that show how sure it is.

What is there stays as it stands. The draws are for analyses: repeat one on each, and the spread of its results says
what the gaps leave open. A mixture of Gaussians fitted to the rows with their gaps says what belongs into them.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import ImputeSettings

from .arguments import settings_of
from .output import Output

EXAMPLES = """\
examples:
  sfumato impute cars.csv
  sfumato impute cars.csv data.columns='{Cylinders: category}' --draws 20 --out filled
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    flag, default = parser.add_argument, ImputeSettings
    flag("source", metavar="SOURCE", help="a table with gaps")
    flag("overrides", nargs="*", metavar="key=value", help="how to read it, such as data.columns='{Id: drop}'")
    flag("--draws", type=int, metavar="N", default=default.draws, help="tables of draws (default: 5)")
    flag("--seed", type=int, default=default.seed, help="random seed (default: 0)")
    flag("--out", type=Path, metavar="DIR", help="the folder to write (default: SOURCE-imputed)")


def run(args: argparse.Namespace) -> int:
    """Fill and write."""
    out, settings = Output(args), settings_of(ImputeSettings, args)
    from sfumato.runs.imputing import impute

    found = impute(settings, out.reporter)
    out.say(*found.describe())
    out.result(found.record)
    return 0
