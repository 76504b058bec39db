"""Draw samples from a trained model: a picture, an array, or a movie of how they form.

Sample i depends only on the seed and on i: a longer run with the same seed starts with the same samples. Under torchrun
the work is shared; the samples are those of a single process.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import SampleSettings

from .arguments import add_device, add_run, add_threads, positive, settings_of
from .output import Output

EXAMPLES = """\
examples:
  sfumato sample runs/demo -n 64
  sfumato sample runs/demo -n 1000 --sampler ancestral --steps 1000 --out many.npz
  sfumato sample runs/demo --sampler adaptive --tolerance 1e-6
  sfumato sample runs/demo -n 16 --seed 7 --out forming.gif
  sfumato sample runs/animals --class cat --class zebra --per-class 100 --out some.npz
  sfumato sample runs/animals --per-class 50 --out more_animals       images, a folder per class
  sfumato sample runs/animals --class zebra --guidance 1.5 --guide-from -3 --guide-until 3
  sfumato sample runs/spectra --condition temperature=21.5,humidity=0.4 -n 100
  sfumato sample runs/masked --seen photo.png --mask hole.png -n 8
  sfumato sample runs/photos-flow --under edm --sampler edm-churn --steps 80
  sfumato sample runs/moons-flow -n 20000 --pairs --out pairs.npz     for reflow
  torchrun --nproc-per-node 4 -m sfumato sample runs/photos-flow -n 50000 --out many.npz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    default = SampleSettings
    add_run(parser)
    flag = parser.add_argument
    flag("-n", "--count", type=positive, default=default.count, help="number of samples (default: 64)")
    flag(
        "--sampler",
        metavar="NAME",
        help="auto, ddim, ancestral, heun, dpm++2m, adaptive, ...; a wrong name lists all (default: the recipe's)",
    )
    flag("--steps", type=positive, metavar="N", help="network evaluations per sample (default: the recipe's)")
    flag(
        "--tolerance",
        type=float,
        help="error per step of the adaptive sampler, which chooses its own steps (default: 1e-4)",
    )
    flag(
        "--eta",
        type=float,
        help="fraction of noise that the ddim sampler adds: 0 is deterministic, 1 is ancestral (default: 0)",
    )
    flag(
        "--under",
        metavar="RECIPE",
        help="sample with the process of another preset or YAML file (default: the model's own process)",
    )
    _add_conditions(parser)
    flag("--pairs", action="store_true", help="also write the noise that each sample started from into the .npz file")
    flag("--seed", type=int, default=default.seed, help="random seed (default: 0)")
    flag("--batch", type=positive, default=default.batch, help="samples drawn at once per process (default: 256)")
    flag(
        "--out",
        type=Path,
        metavar="FILE",
        help="output file: .png, .npz, .csv, .tsv, .parquet, .gif or .webp; without an ending a new folder of images, "
        "with a sub-folder per class (default: a .png and an .npz in RUN/samples, and a table if the data is one)",
    )
    add_threads(parser)
    add_device(parser)


def _add_conditions(parser: argparse.ArgumentParser) -> None:
    """The flags of what samples are given."""
    flag = parser.add_argument
    flag(
        "--class",
        dest="classes",
        action="append",
        default=[],
        metavar="NAME",
        help="draw this class; may be repeated (default: all classes, in their shares)",
    )
    flag(
        "--condition",
        dest="conditions",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="draw samples given these numbers; may be repeated; numbers that are left out are not given",
    )
    flag(
        "--seen",
        type=Path,
        metavar="FILE",
        help="what is known of the samples: an image or array, whole or low-resolution",
    )
    flag("--mask", type=Path, metavar="FILE", help="of --seen, white where the samples are to be filled in")
    flag("--per-class", type=positive, metavar="N", help="samples of each class, of all classes without --class")
    flag("--guidance", type=float, metavar="W", help="exaggerate the class: 1 is not at all, 1.5 is usual (default: 1)")
    flag("--guide-from", type=float, metavar="LOGSNR", help="guide from this log-SNR on (default: from pure noise on)")
    flag("--guide-until", type=float, metavar="LOGSNR", help="guide up to this log-SNR (default: to the end)")
    flag(
        "--guide-with",
        type=Path,
        metavar="RUN",
        help="lead away from this smaller or shorter-trained run, or with 'early' from its own early weights, not "
        "from the model without the class",
    )


def run(args: argparse.Namespace) -> int:
    """Draw and write."""
    out, settings = Output(args), settings_of(SampleSettings, args)
    from sfumato.runs.drawing import draw

    found = draw(settings, out.reporter)
    if found is not None:
        out.say(*found.describe())
        out.result(found.to_dict())
    return 0
