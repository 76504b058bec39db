"""Say which reading, pixel or wavelength to measure next: the one expected to take most off the error.

What was measured so far is reconstructed; the draws say how uncertain every value still is, and how values belong
together. Nothing is written.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import NextSettings

from .arguments import add_device, add_run, add_threads, positive, settings_of
from .output import Output

EXAMPLES = """\
examples:
  sfumato next runs/demo --measured seen.npy --noise 0.3
  sfumato next runs/spectra --operator response:filters.csv --measured readings.csv --noise 0.01 --count 5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    add_run(parser)
    default, flag = NextSettings, parser.add_argument
    flag(
        "--measured",
        required=True,
        type=Path,
        metavar="FILE",
        help="a number for each candidate reading, nan where there is none yet",
    )
    flag("--noise", required=True, type=float, help="standard deviation of a reading, in its units")
    flag("--operator", metavar="A", help="the candidates, as for reconstruct (default: the values of a sample)")
    flag("--count", type=positive, default=default.count, help="how many readings to name (default: 3)")
    flag("--draws", type=positive, default=default.draws, help="samples of the posterior (default: 64)")
    flag("--steps", type=positive, metavar="N", help="network evaluations per move (default: 20)")
    flag("--particles", type=positive, metavar="N", help="of the annealed method (default: 256)")
    flag("--seed", type=int, default=default.seed, help="random seed (default: 0)")
    add_threads(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Rank and print."""
    out, settings = Output(args), settings_of(NextSettings, args)
    from sfumato.runs.next_reading import next_lines, run_next

    record = run_next(settings)
    out.say(*next_lines(record))
    out.result(record)
    return 0
