"""One HTML page about a run that contains everything it shows: no network, no script, no other file."""

from html import escape
from pathlib import Path

from sfumato.files import write_text
from sfumato.runs.folder import RunFolder

from . import template
from .run import read_run
from .sections import run as about
from .sections import samples, training

_SECTIONS = (
    about.heading,
    samples.samples,
    about.results,
    samples.nearest,
    samples.trajectory,
    training.training,
    training.process,
    about.details,
)


def write_report(folder: RunFolder, page: Path | None = None) -> Path:
    """Write ``report.html`` into a run folder, or at the path ``page``, and return its path.

    The page is made from the files of the folder. Only ``config.json`` must exist; for other files that are missing or
    damaged, the page has a sentence that says so. An interrupted call leaves the former page.

    Raises:
        InputError: the folder has no valid ``config.json``.
    """
    run = read_run(folder)
    name = folder.path.name or str(folder.path)
    footer = f"<footer>Written by sfumato {escape(run.version)} from the files of {escape(name)}.</footer>"
    text = template.PAGE.substitute(
        title=escape(f"{run.spec.source} · {run.recipe.name} · sfumato"),
        style=template.STYLE,
        body="\n".join([*(section(run) for section in _SECTIONS), footer]),
    )
    page = page or folder.report
    write_text(page, text)
    return page
