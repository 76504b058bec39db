"""Fill the rare classes of a table, of images or of signals with synthetic samples, and say which ones these are.

Trees are grown on the whole table, or a network is trained on the images or signals, and makes the missing samples of
each class. Those that are nearly copies of real ones, and those that a classifier trained on the real ones finds
implausible for their class, are dropped and counted. Whether this helps is another question: for a strong learner, a
tuned threshold often does as much.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import BalanceSettings

from .arguments import seconds, settings_of, words
from .output import Output

EXAMPLES = """\
examples:
  sfumato balance flowers.csv data.labels=species
  sfumato balance flowers.csv data.labels=species --target setosa=80,virginica=90 --out balanced
  sfumato balance flowers.csv data.labels=species --evaluate
  sfumato balance xrays --budget 30m
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    flag, default = parser.add_argument, BalanceSettings
    flag("source", metavar="SOURCE", help="a table with classes, a folder of images for each class, or an .npz file")
    flag("overrides", nargs="*", metavar="key=value", help="settings of the recipe")
    flag("--target", default=default.target, help="samples of each class: equal, N, or CLASS=N,... (default: equal)")
    flag("--run", type=Path, metavar="RUN", help="a run with the same classes, whose model makes the samples")
    flag("--budget", type=seconds, metavar="T", help="time to train on images or signals (default: 10m)")
    flag("--overlap", action="store_true", help="other classes' samples that look like the smallest get own labels")
    flag("--keep-copies", action="store_true", help="keep samples that are nearly copies of real ones")
    flag("--keep-implausible", action="store_true", help="keep samples that a classifier finds implausible")
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
        help="beside real and synthetic ones: weighted, oversampled, smote, borderline, overlap "
        "(default: the first three)",
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
