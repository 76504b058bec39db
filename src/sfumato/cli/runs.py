"""List the runs below a folder, newest first: data, recipe, budget, bound, quality and date.

The bound is that of 'sfumato likelihood', in bits per dimension. Quality is the lesser of Clipped Density and Clipped
Coverage, as 'sfumato evaluate' measured them: about 1 for samples as good as real data.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import SORTS, RunsSettings

from .arguments import settings_of
from .output import Output

EXAMPLES = """\
examples:
  sfumato runs
  sfumato runs runs/compare-digits --sort bound
  sfumato runs --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    default, flag = RunsSettings, parser.add_argument
    flag("folder", nargs="?", type=Path, default=default.folder, metavar="DIR", help="where to look (default: runs)")
    flag("--sort", choices=SORTS, default=default.sort, help="what comes first (default: the newest)")


def run(args: argparse.Namespace) -> int:
    """List the runs."""
    out, settings = Output(args), settings_of(RunsSettings, args)
    from sfumato.runs.listing import lines, listed

    found = listed(settings)
    out.say(*lines(found, settings.folder))
    out.result({"runs": [each.to_dict() for each in found]})
    return 0
