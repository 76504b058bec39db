"""Fill in a part of an image, or of any other sample, in several plausible ways.

The result is a folder with draws, mean, standard deviation and credible bands (reconstruction.npz), how well the model
explains what is known (result.json), and a figure.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import InpaintSettings

from .arguments import add_run, positive, settings_of
from .output import Output
from .reconstruct import add_method

EXAMPLES = """\
examples:
  sfumato inpaint runs/demo digit.png --mask hole.png
  sfumato inpaint runs/demo digit.npy --mask hole.npy --draws 32 --noise 0.2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    add_run(parser)
    flag = parser.add_argument
    flag("image", type=Path, metavar="IMAGE", help="the file with the sample: an image, or an array in data units")
    flag("--mask", required=True, type=Path, metavar="FILE", help="white, or not 0, where to fill in")
    flag("--noise", type=float, help="deviation of noise in the known values (default: 2.5%% of the data's range)")
    flag("--draws", type=positive, default=InpaintSettings.draws, help="ways to fill it in (default: 8)")
    add_method(parser)


def run(args: argparse.Namespace) -> int:
    """Fill in and write."""
    out, settings = Output(args), settings_of(InpaintSettings, args)
    from sfumato.runs.reconstruction import lines, run_reconstruction

    record, files = run_reconstruction(settings, out.reporter)
    out.say(*lines(record), *map(str, files))
    out.result({**record, "files": [str(path) for path in files]})
    return 0
