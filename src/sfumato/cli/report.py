"""Make the report page of a run: report.html, one file that needs nothing else.

Samples are drawn first where the run has none, as after a training that was killed.
"""

import argparse
from pathlib import Path

from . import common, runs

EXAMPLES = """\
example:
  sfumato report runs/demo
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="a run folder")
    common.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    from sfumato.model import Model, read_config
    from sfumato.report import write_report
    from sfumato.runs.folder import RunFolder

    out = common.Output(args)
    read_config(args.run_folder)
    if not (args.run_folder / "gallery.npz").exists():
        model = Model.from_pretrained(args.run_folder, common.pick_device(args.device))
        _, dataset = runs.reopen(args.run_folder, out)
        runs.finish(args.run_folder, model, dataset)
    page = write_report(RunFolder(args.run_folder))
    out.say(str(page))
    out.result({"report": str(page)})
    return 0
