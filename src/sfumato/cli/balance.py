"""Fill the rare classes of a table with synthetic rows, and say which rows these are.

Trees are grown on the whole table, and make the missing rows of each class. Rows that are nearly copies of real ones,
and rows that a classifier trained on the real ones finds implausible for their class, are dropped and counted. Whether
this helps is another question: for a strong learner, a tuned threshold often does as much.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import BalanceSettings

from .arguments import settings_of, words
from .output import Output

EXAMPLES = """\
examples:
  sfumato balance flowers.csv data.labels=species
  sfumato balance flowers.csv data.labels=species --target setosa=80,virginica=90 --out balanced
  sfumato balance flowers.csv data.labels=species --evaluate
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    flag, default = parser.add_argument, BalanceSettings
    flag("source", metavar="SOURCE", help="a table with classes")
    flag("overrides", nargs="*", metavar="key=value", help="settings of the recipe 'trees'")
    flag("--target", default=default.target, help="rows of each class: equal, N, or CLASS=N,... (default: equal)")
    flag("--keep-copies", action="store_true", help="keep rows that are nearly copies of real ones")
    flag("--keep-implausible", action="store_true", help="keep rows that a classifier finds implausible")
    flag("--evaluate", action="store_true", help="measure first whether synthetic rows help learners")
    flag("--splits", type=int, metavar="N", default=default.splits, help="tests for it, a multiple of 5 (default: 10)")
    flag(
        "--learners",
        type=words("learner", "logistic,mlp"),
        metavar="A,B",
        help="of logistic, forest, boosting, mlp, easy-ensemble, balanced-bagging, balanced-forest "
        "(default: the first three)",
    )
    flag(
        "--rows",
        type=words("rows", "smote,borderline"),
        metavar="A,B",
        help="beside real and synthetic ones: weighted, oversampled, smote, borderline (default: all but the last)",
    )
    flag("--seed", type=int, default=default.seed, help="random seed (default: 0)")
    flag("--out", type=Path, metavar="DIR", help="the folder to write (default: SOURCE-balanced)")


def run(args: argparse.Namespace) -> int:
    """Balance and write."""
    out, settings = Output(args), settings_of(BalanceSettings, args)
    from sfumato.runs.balance import balance

    found = balance(settings, out.reporter)
    out.say(*found.describe())
    out.result(found.record)
    return 0
