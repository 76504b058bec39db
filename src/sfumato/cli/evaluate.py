"""Measure how samples of a model differ from real data, and whether they are copies of training data.

Every number has an interval of 95 %, and beside it stands the same number of real data in the place of the samples: it
is what a perfect model would get. Without --against, samples are compared with the run's own training data, and
held-out data with the same; held-out data is filled up from training data that is not compared with. The numbers are
written to evaluation.json in RUN, and the pairs that look most like copies to evaluation.npz.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import EvaluateSettings

from .arguments import add_device, add_run, add_threads, counts, positive, settings_of, words
from .output import Output

EXAMPLES = """\
examples:
  sfumato evaluate runs/demo
  sfumato evaluate runs/photos-flow -n 5000 --features efficientnet-lite0
  sfumato evaluate runs/photos-flow --nfe 5,10,20
  sfumato evaluate runs/photos-flow --against other_photos/ data.size=64x64
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    default, flag = EvaluateSettings, parser.add_argument
    add_run(parser)
    flag(
        "overrides",
        nargs="*",
        metavar="data.key=value",
        help="settings of reading SOURCE, as for 'sfumato train'",
    )
    flag("--against", metavar="SOURCE", help="real data to compare with (default: the run's own)")
    flag("-n", "--count", type=positive, default=default.count, help="samples to draw, at most (default: 1000)")
    flag(
        "--features",
        type=words("feature space", "pixels"),
        metavar="A,B",
        help="feature spaces: pixels (values, unless images), efficientnet-lite0, own-encoder (learnt from the data in "
        "minutes) (default: those that suit the data)",
    )
    flag(
        "--nfe",
        type=counts,
        default=default.nfe,
        metavar="N,N",
        help="also judge samples by so many evaluations of the network",
    )
    flag("--inception", type=Path, metavar="FILE", help="weights of Inception-v3, to measure FID too")
    flag("--seed", type=int, default=default.seed, help="random seed (default: 0)")
    add_threads(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table, and write the numbers."""
    out, settings = Output(args), settings_of(EvaluateSettings, args)
    from sfumato.runs.evaluating import evaluate_run

    found, record, files = evaluate_run(settings, out.reporter)
    out.say(str(found), *map(str, files))
    out.result({**record, "files": [str(path) for path in files]})
    return 0
