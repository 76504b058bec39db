"""Make frames between two samples: both are mixed at a noisy level, and the model leads each mixture back to data.

The result is a folder with the frames (frames.npz), the settings and how well the ends return (result.json), and a
figure.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import InterpolateSettings

from .arguments import add_device, add_run, add_threads, positive, settings_of
from .output import Output

EXAMPLES = """\
examples:
  sfumato interpolate runs/demo three.png eight.png
  sfumato interpolate runs/demo three.npy eight.npy --at 500/1000 --frames 9 --mode shared
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    add_run(parser)
    flag = parser.add_argument
    flag("a", type=Path, metavar="A", help="the file with the first sample: an image, or an array in data units")
    flag("b", type=Path, metavar="B", help="the file with the last")
    flag("--at", type=_fraction, default=InterpolateSettings.at, help="time of the mixture, 1/2 or 0.5 (default: 0.5)")
    flag("--frames", type=positive, default=InterpolateSettings.frames, help="frames with both ends (default: 9)")
    flag(
        "--mode",
        default=InterpolateSettings.mode,
        help="latent (the ends return), spherical or shared (noise, the same for all frames) (default: latent)",
    )
    flag("--steps", type=positive, default=InterpolateSettings.steps, help="evaluations per frame (default: 50)")
    flag("--seed", type=int, default=0, help="random seed of spherical and shared (default: 0)")
    flag("--out", type=Path, metavar="FOLDER", help="the folder to write (default: in RUN, named by the input)")
    add_threads(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Interpolate and write."""
    out, settings = Output(args), settings_of(InterpolateSettings, args)
    from sfumato.runs.denoising import interpolate_lines, run_interpolate

    record, files = run_interpolate(settings, out.reporter)
    out.say(*interpolate_lines(record), *map(str, files))
    out.result({**record, "files": [str(path) for path in files]})
    return 0


def _fraction(text: str) -> float:
    """A number, or two with a stroke between: 0.5, 500/1000."""
    above, _, below = text.partition("/")
    try:
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"'{text}' is not a fraction; write 0.5, or 500/1000") from None
