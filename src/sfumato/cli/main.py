"""``sfumato VERB``: parsing, errors, exit statuses.

Exit status 0: done. 1: failed. 2: bad usage or bad input; one line names the file or key and how to fix it.
130: interrupted. 143: a training was ended by SIGTERM and left a checkpoint.
"""

import argparse
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from sfumato._version import __version__
from sfumato.errors import DiskFullError, FailedError, InputError
from sfumato.files import no_permission

from .arguments import parse

VERBS = {
    "demo": "train on handwritten digits, sample, and show the result, in two minutes",
    "inspect": "look at your data before training: how it is read, what may go wrong, how long it takes",
    "train": "train a model on your own data",
    "sample": "draw samples from a trained model",
    "likelihood": "compute the likelihood of data, in bits per dimension with error bars",
    "evaluate": "measure how samples differ from real data, and whether they copy it, with error bars",
    "reconstruct": "reconstruct samples from measurements, with bands and evidence",
    "design": "choose the filters of an instrument, and predict its error",
    "next": "say which reading, pixel or wavelength to measure next",
    "inpaint": "fill in a part of an image, or of any other sample, in several ways",
    "balance": "fill the rare classes of a table with synthetic rows, and say which they are",
    "impute": "fill the gaps of a table, several times, with draws that agree with the rest of each row",
    "denoise": "remove noise from samples, with the model as the prior",
    "interpolate": "make frames between two samples",
    "tune": "fit fast samplers to a trained model",
    "certify": "measure the error of every sampler at every number of evaluations",
    "compare": "train several recipes on the same terms and rank them on your data",
    "runs": "list runs: data, recipe, budget, bound, quality, date",
    "report": "write the report page of a run",
}

SHARED = ("train", "sample", "likelihood")  # verbs that can run on several processes of torchrun

DESCRIPTION = """\
Diffusion models for your own data: train a model, draw samples, compute likelihoods, and get a report.

'sfumato VERB --help' lists the arguments of a verb, with examples.
"""

EXAMPLES = """\
examples:
  sfumato demo                                   see it work, no data needed
  sfumato train my_folder --budget 10m           a folder of images, ten minutes
  sfumato sample runs/my_folder-flow -n 64       64 new images
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser that prints one line and exits with status 2 after a mistake."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see '{self.prog} --help'\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="sfumato",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"sfumato {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for verb, summary in VERBS.items():
        module = importlib.import_module(f"sfumato.cli.{verb}")
        sub = verbs.add_parser(
            verb,
            help=summary,
            description=module.__doc__,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(sub)
        sub.add_argument(
            "--json", action="store_true", help="print one JSON object to standard output and nothing else"
        )
        sub.add_argument("--debug", action="store_true", help="print the traceback of an error")
        sub.set_defaults(action=module.run, flags=[name for each in sub._actions for name in each.option_strings])
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # characters that the terminal cannot show are escaped
            stream.reconfigure(errors="backslashreplace")
    args = parse(parser(), argv)
    try:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and args.verb not in SHARED:
            raise InputError(f"{args.verb} runs in a single process; start it without torchrun")
        status: int = args.action(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print(f"sfumato {args.verb}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output is gone, as in `sfumato ... | head`
        sys.stderr.close()
        return 1
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        if isinstance(error, PermissionError) and error.filename is not None:
            error = no_permission(error.filename)
        message = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, InputError) and not isinstance(error, DiskFullError):
            print(f"sfumato {args.verb}: error: {message}", file=sys.stderr)
            return 2
        if isinstance(error, (DiskFullError, FailedError, OSError)):
            print(f"sfumato {args.verb}: failed: {message}", file=sys.stderr)
            return 1
        print(
            f"sfumato {args.verb}: failed: {type(error).__name__}: {message} (--debug prints the traceback)",
            file=sys.stderr,
        )
        return 1


def _open_missing_streams() -> None:
    """Give a process without a console streams that go nowhere; else a file that it opens could get their numbers."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for the life of the process)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
