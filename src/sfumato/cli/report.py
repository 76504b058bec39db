"""Write the report page of a run: report.html, one file that needs nothing else, and its figures as files.

If the run has no samples yet, for example because training was killed, they are drawn first.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import ReportSettings

from .arguments import add_device, add_run, add_threads, settings_of
from .output import Output

EXAMPLES = """\
examples:
  sfumato report runs/demo
  sfumato report runs/photos-flow --compare runs/photos-edm runs/photos-flow
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    add_run(parser, "a run folder")
    moved = "where the run's data is now, if it has moved and samples must be drawn"
    parser.add_argument("source", nargs="?", metavar="SOURCE", help=moved)
    parser.add_argument(
        "--compare", type=Path, nargs="+", default=(), metavar="RUN", help="other runs to put beside it"
    )
    add_threads(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    out, settings = Output(args), settings_of(ReportSettings, args)
    from sfumato.runs.report import report

    page = report(settings, out.reporter)
    out.say(str(page))
    out.result({"report": str(page)})
    return 0
