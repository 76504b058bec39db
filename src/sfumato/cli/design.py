"""Choose the filters of an instrument for the data of a trained model, and predict its error before it is built.

The filters that leave the least error of the best linear estimate are chosen, under the covariance of the model's
samples. Samples are then measured with them and reconstructed: their error, and the width of the bands, are what the
instrument will have. The table of the chosen filters is ready for 'sfumato reconstruct --operator response:FILE'.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import DesignSettings

from .arguments import add_device, add_run, add_threads, positive, settings_of
from .output import Output

EXAMPLES = """\
examples:
  sfumato design runs/spectra --filters filters.csv -k 6 --noise 0.01
  sfumato design runs/spectra --filters filters.csv -k 4 --noise 0.01 --check 0 --out four.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    add_run(parser)
    flag = parser.add_argument
    flag(
        "--filters",
        required=True,
        type=Path,
        metavar="FILE",
        help="a table: positions, such as wavelengths, then the response of a filter in each column",
    )
    flag("-k", "--count", required=True, type=positive, metavar="K", help="how many filters to choose")
    flag("--noise", required=True, type=float, help="standard deviation of a reading, in its units")
    flag(
        "--check",
        type=int,
        default=DesignSettings.check,
        metavar="N",
        help="simulated reconstructions that predict error and band (default: 8; 0 for none)",
    )
    flag("--seed", type=int, default=0, help="random seed (default: 0)")
    flag("--out", type=Path, metavar="FILE", help="the table of the chosen filters (default: design.csv in RUN)")
    add_threads(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Choose and write."""
    out, settings = Output(args), settings_of(DesignSettings, args)
    from sfumato.runs.designing import design_lines, run_design

    record, files = run_design(settings, out.reporter)
    out.say(*design_lines(record), *map(str, files))
    out.result({**record, "files": [str(path) for path in files]})
    return 0
