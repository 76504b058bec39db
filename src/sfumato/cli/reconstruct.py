"""Reconstruct samples from measurements y = A(x) + noise, with a trained model as the prior.

The result is a folder with mean, standard deviation, draws and credible bands (reconstruction.npz), the evidence of
each measurement and how well the model explains it (result.json), and a figure.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import ReconstructSettings

from .arguments import add_device, add_run, add_threads, positive, settings_of
from .output import Output

EXAMPLES = """\
examples:
  sfumato reconstruct runs/demo --operator downsample:2 --measurements small.npz --noise 0.3
  sfumato reconstruct runs/demo --operator matrix.npz --measurements y.npz --noise 0.01 --draws 64
  sfumato reconstruct runs/demo --operator blur:1.5 --measurements y.npy --noise 25dB --method mmps
  sfumato reconstruct runs/spectra --operator response:filters.csv --measurements y.csv --noise 0.01 --simulations 99
  sfumato reconstruct runs/spectra --calibrate-operator pairs.npz --measurements readings.csv
"""


def add_method(parser: argparse.ArgumentParser) -> None:
    """The flags of the verbs that draw from a posterior, but for those of their input."""
    flag = parser.add_argument
    flag(
        "--method",
        default="auto",
        help="exact (of a mixture), annealed (exact in the limit), mmps, pigdm or dps (default: the first that fits)",
    )
    flag("--steps", type=positive, metavar="N", help="network evaluations per move or draw (default: 20; mmps: 50)")
    flag("--particles", type=positive, metavar="N", help="of the annealed method (default: 256, or as many as draws)")
    flag("--seed", type=int, default=0, help="random seed (default: 0)")
    flag("--batch", type=positive, default=256, help="samples evaluated at once (default: 256)")
    flag("--out", type=Path, metavar="FOLDER", help="the folder to write (default: in RUN, named by the input)")
    add_threads(parser)
    add_device(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    add_run(parser)
    flag = parser.add_argument
    flag(
        "--operator",
        metavar="A",
        help="a file with a matrix, downsample:FACTOR, blur:WIDTH, mask:FILE (white is missing), or response:FILE",
    )
    flag("--measurements", required=True, type=Path, metavar="FILE", help="readings, one row per measurement")
    flag(
        "--noise",
        help="deviation of the readings' noise in their units, or a file of them; 25dB, photons:GAIN:READ, auto",
    )
    flag(
        "--calibrate-operator",
        type=Path,
        metavar="FILE",
        help="an .npz file of samples x and their readings y: estimate the operator and its noise from them",
    )
    flag("--draws", type=positive, default=ReconstructSettings.draws, help="samples per measurement (default: 64)")
    flag(
        "--simulations",
        type=int,
        default=ReconstructSettings.simulations,
        metavar="N",
        help="simulate so many measurements, to tell whether the model explains yours (default: 0; 99 is good)",
    )
    add_method(parser)


def run(args: argparse.Namespace) -> int:
    """Reconstruct and write."""
    out, settings = Output(args), settings_of(ReconstructSettings, args)
    from sfumato.runs.reconstruction import lines, run_reconstruction

    record, files = run_reconstruction(settings, out.reporter)
    out.say(*lines(record), *map(str, files))
    out.result({**record, "files": [str(path) for path in files]})
    return 0
