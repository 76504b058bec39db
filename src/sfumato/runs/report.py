"""The report page of a run, with samples drawn first where there are none."""

from pathlib import Path

from sfumato import kinds
from sfumato.report import write_report
from sfumato.reporting import SILENT, Reporter

from . import lifecycle
from .device import pick_device
from .folder import RunFolder
from .outputs import require_writable_run, writable_or_here
from .settings import ReportSettings
from .threads import threads


def report(settings: ReportSettings, reporter: Reporter = SILENT) -> Path:
    """Write the report of a run, and return its path.

    Raises:
        InputError: the folder holds no run, or samples are missing and cannot be drawn, as without the run's data.
    """
    folder = RunFolder(settings.run)
    folder.config()  # refuse what is no run before a device is chosen
    others = [RunFolder(other) for other in settings.compare]
    for other in others:
        other.config()
    elsewhere = "start the command in a folder of your own"
    page = writable_or_here(folder.path, reporter, elsewhere) / folder.report.name
    if not folder.gallery.exists():
        require_writable_run(folder.path)
        model = kinds.load(folder.path, pick_device(settings.device))
        _, dataset = lifecycle.reopen(folder, reporter, settings.source)
        with threads(settings.threads, folder.path):
            lifecycle.finish(folder, model, dataset, reporter)
    return write_report(folder, page, others)
