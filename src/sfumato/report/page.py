"""One HTML page about a run, with everything inside: no network, no script, no other file."""

from html import escape
from pathlib import Path

from sfumato.files import write_text

from . import sections, showing, template
from .run import read_run


def write_report(run: Path) -> Path:
    """Write ``report.html`` into the run folder and return its path.

    The page is built from the folder's files alone: ``config.json`` must be there; measurements, gallery and results
    that are missing or damaged become a sentence that says so. It is written beside its place and renamed.

    Raises InputError when ``run`` has no valid ``config.json``.
    """
    read = read_run(run)
    parts = (
        sections.heading,
        showing.samples,
        sections.results,
        showing.nearest,
        showing.trajectory,
        sections.training,
        sections.process,
        sections.details,
    )
    version = read.config.get("sfumato", "")
    footer = (
        f"<footer>Written by sfumato {escape(str(version))} from the files of {escape(run.name or str(run))}.</footer>"
    )
    page = template.PAGE.substitute(
        title=escape(f"{read.spec.source} · {sections.recipe_name(read)} · sfumato"),
        style=template.STYLE,
        body="\n".join([part(read) for part in parts] + [footer]),
    )
    path = run / "report.html"
    write_text(path, page)
    return path
