"""Remove white noise from samples, with a trained model as the prior.

The level of the model is matched to the noise; without --sigma the noise of each sample is estimated. The result is a
folder with the posterior mean, the estimate of least squared error, draws as sharp as the data (denoised.npz), the
noise (result.json), and a figure.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import DenoiseSettings

from .arguments import add_device, add_run, add_threads, positive, settings_of
from .output import Output

EXAMPLES = """\
examples:
  sfumato denoise runs/demo noisy.png --sigma 2
  sfumato denoise runs/demo noisy.npy --sigma auto --draws 8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    add_run(parser)
    flag = parser.add_argument
    flag("images", type=Path, nargs="+", metavar="IMAGES", help="files with noisy samples: images, or arrays")
    flag("--sigma", type=_sigma, help="standard deviation of the noise in data units, or auto (default: auto)")
    flag("--draws", type=_count, default=DenoiseSettings.draws, help="samples for each noisy one (default: 4)")
    flag("--steps", type=positive, default=DenoiseSettings.steps, help="network evaluations per draw (default: 50)")
    flag("--seed", type=int, default=0, help="random seed (default: 0)")
    flag("--batch", type=positive, default=256, help="samples evaluated at once (default: 256)")
    flag("--out", type=Path, metavar="FOLDER", help="the folder to write (default: in RUN, named by the input)")
    add_threads(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Denoise and write."""
    out, settings = Output(args), settings_of(DenoiseSettings, args)
    from sfumato.runs.denoising import denoise_lines, run_denoise

    record, files = run_denoise(settings, out.reporter)
    out.say(*denoise_lines(record), *map(str, files))
    out.result({**record, "files": [str(path) for path in files]})
    return 0


def _count(text: str) -> int:
    return 0 if text == "0" else positive(text)


def _sigma(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number; write one, or auto") from None
