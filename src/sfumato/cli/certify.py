"""Measure the error of every sampler at every budget, and its order of convergence; or of reconstructions.

Without RUN, samplers are measured on an oracle: a mixture of Gaussians whose exact denoiser is known in closed form.
With RUN, they are measured against the trained model's own fine solution of 1,000 evaluations. Oracles run on the CPU.

With --operator and --noise, methods of reconstruction are compared on a twin of the problem whose posterior is known,
and the bands of the best are checked on held-out data.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import CertifySettings

from .arguments import add_device, add_threads, counts, positive, seconds, settings_of, words
from .output import Output

EXAMPLES = """\
examples:
  sfumato certify                                    25 modes in the plane, exact
  sfumato certify oracle --oracle cosine64 --nfe 5,10,20
  sfumato certify runs/demo --methods auto,ddim,dpm++2m
  sfumato certify runs/demo --operator downsample:2 --noise 0.5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    default, flag = CertifySettings, parser.add_argument
    flag(
        "target",
        nargs="?",
        default=default.target,
        metavar="RUN",
        help="a run or model folder, or 'oracle' (default: oracle)",
    )
    flag("--oracle", metavar="NAME", help="modes, cosine64, ve16, flow4 or gaussian (default: modes)")
    flag("--nfe", type=counts, metavar="N,N", help="network evaluations per sample (default: 5,8,10,15,20,50,100)")
    flag("--methods", type=words("sampler", "auto,ddim"), metavar="A,B", help="samplers to measure (default: all)")
    flag(
        "--samples",
        type=positive,
        metavar="N",
        help="samples per method (default: up to 1024 for an oracle, 256 for a model, 20 problems with --operator)",
    )
    flag(
        "--operator", metavar="A", help="certify reconstructions: what was measured, as 'sfumato reconstruct' takes it"
    )
    flag("--noise", type=float, help="standard deviation of the readings' noise, in their units")
    flag("--budget", type=seconds, metavar="TIME", help="time for --operator: 90s, 10m, 1h30m (default: 2m)")
    flag("--seed", type=int, default=default.seed, help="random seed of the starts (default: 0)")
    flag(
        "--out",
        type=Path,
        metavar="FILE",
        help="the figure, a .png file; the numbers go into a .json file beside it (default: certify.png in RUN)",
    )
    add_threads(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables, and draw the figure."""
    out, settings = Output(args), settings_of(CertifySettings, args)
    if settings.operator is None:
        from sfumato.runs.certification import run_certification as certify
        from sfumato.runs.certification_text import lines
    else:
        from sfumato.runs.reconstruction_certification import lines
        from sfumato.runs.reconstruction_certification import run_reconstruction_certification as certify

    record, files = certify(settings, out.reporter)
    out.say(*lines(record), *map(str, files))
    out.result({**record, "files": [str(path) for path in files]})
    return 0
