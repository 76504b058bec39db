"""Compute the likelihood of data under a model: bits per dimension, by term, with error bars, by two methods.

The bound (negative ELBO) is an upper limit on the bits per dimension of the model that samples with noise. The flow
gives the exact value for the model that samples by the ODE; for a perfect network both are equal. DATA is anything that
'sfumato train' takes, in the same units; by default, the run's own held-out data is scored. Likelihood alone is a poor
out-of-distribution score, so three better ones are reported too. Under torchrun the samples are shared among the
processes.
"""

import argparse
from pathlib import Path
from typing import Literal

from sfumato.runs.settings import LikelihoodSettings

from .arguments import add_device, add_run, add_threads, positive, settings_of
from .output import Output

EXAMPLES = """\
examples:
  sfumato likelihood runs/demo                                  the run's own held-out data
  sfumato likelihood runs/photos-flow more_photos/ -n 1000 --per-sample bits.csv
  sfumato likelihood runs/photos-flow larger_photos/ data.size=64x64
  sfumato likelihood runs/demo --evaluations all --no-flow      every level of the chain
  sfumato likelihood runs/photos-flow --against other_photos/   how well the scores separate other data
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    default, flag = LikelihoodSettings, parser.add_argument
    add_run(parser)
    flag("data", nargs="?", metavar="DATA", help="the data to score (default: the run's own held-out data)")
    flag(
        "overrides",
        nargs="*",
        metavar="data.key=value",
        help="settings of reading DATA and DATA2, as for 'sfumato train'",
    )
    flag("-n", "--count", type=positive, default=default.count, help="samples to score, at most (default: 128)")
    flag("--against", metavar="DATA2", help="a second data set; report how well the scores separate it from the first")
    flag(
        "--evaluations",
        type=_evaluations,
        default=default.evaluations,
        metavar="N",
        help="approximate network evaluations per sample for the bound; 'all': every chain level (default: 100)",
    )
    flag(
        "--steps",
        type=positive,
        metavar="N",
        help="compute the bound over N steps between noise levels (default: the model's own levels)",
    )
    flag(
        "--variance",
        choices=("posterior", "beta"),
        help="variance of the reverse steps, unless it is learned (default: beta for densities, posterior for data "
        "with levels)",
    )
    flag("--no-flow", dest="flow", action="store_false", help="compute only the bound, which is several times faster")
    flag("--tolerance", type=float, help="error per step of the flow's ODE (default: 1e-4)")
    flag(
        "--probes",
        type=_probes,
        metavar="N",
        help="random directions per trace of the flow, or 'exact' (default: 2; exact for up to 16 dimensions)",
    )
    flag("--draws", type=positive, metavar="N", help="importance-weighted dequantisation samples (default: 1)")
    flag(
        "--dequantisation",
        choices=("noise", "uniform"),
        help="distribution that dequantises data with levels (default: noise)",
    )
    flag("--seed", type=int, default=default.seed, help="random seed (default: 0)")
    flag("--batch", type=positive, default=default.batch, help="samples scored at once (default: 256)")
    flag("--per-sample", type=Path, metavar="FILE", help="also write the numbers of each sample to this .csv file")
    flag(
        "--out",
        type=Path,
        metavar="FILE",
        help="the figure, a .png file; the numbers go into a .json file beside it (default: likelihood.png in RUN)",
    )
    add_threads(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Score, print the table, write the figure."""
    out, settings = Output(args), settings_of(LikelihoodSettings, args)
    from sfumato.runs.scoring import score_run
    from sfumato.runs.scoring_text import lines

    found = score_run(settings, out.reporter)
    if found is not None:
        record, files = found
        out.say(*lines(record), *map(str, files))
        out.result({**record, "files": [str(path) for path in files]})
    return 0


def _evaluations(text: str) -> int | None:
    return None if text == "all" else positive(text)


def _probes(text: str) -> int | Literal["exact"]:
    return "exact" if text == "exact" else positive(text)
