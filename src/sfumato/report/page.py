"""One HTML page about a run that contains everything it shows: no network, no script, no other file."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from sfumato.files import write_text
from sfumato.reporting import Progress
from sfumato.runs.folder import RunFolder

from . import card, figures, template
from .run import Run, read_run
from .sections import beside, measured, next_steps, quality, reconstructions, samples, training
from .sections import run as about

_SECTIONS = (
    about.heading,
    samples.samples,
    quality.quality,
    about.results,
    samples.nearest,
    samples.trajectory,
    measured.likelihood,
    measured.evaluations,
    reconstructions.reconstructions,
    training.training,
    training.process,
    next_steps.next_steps,
    about.details,
)


def write_report(
    folder: RunFolder,
    page: Path | None = None,
    others: Sequence[RunFolder] = (),
    progress: Progress = lambda done, total: None,
) -> Path:
    """Write ``report.html`` into a run folder, or at the path ``page``, and return its path.

    The figures are also written as files, into the folder ``figures`` beside the page, and the model card with what was
    measured. ``others`` are runs to compare. ``progress`` is called with the sections, done and in all.

    The page is made from the files of the folder. Only ``config.json`` must exist; for other files that are missing or
    damaged, the page has a sentence that says so. An interrupted call leaves the former page.

    Raises:
        InputError: a folder has no valid ``config.json``.
    """
    run = read_run(folder)
    name = folder.path.name or str(folder.path)
    footer = f"<footer>Written by sfumato {escape(run.version)} from the files of {escape(name)}.</footer>"
    with figures.collected() as drawn:
        first, *more = (_made(section, number, run, progress) for number, section in enumerate(_SECTIONS))
        sections = [first, beside.beside(run, [read_run(other) for other in others]), *more]
    text = template.PAGE.substitute(
        title=escape(f"{run.spec.source} · {run.recipe.name} · sfumato"),
        style=template.STYLE,
        body="\n".join([*sections, footer]),
    )
    page = page or folder.report
    figures.write_figures(page.with_name(folder.figures.name), drawn)
    write_text(page, text)
    if page.parent == folder.path:
        folder.write_card(card.facts(run), card.metrics(run))
    return page


def _made(section: Callable[[Run], str], number: int, run: Run, progress: Progress) -> str:
    progress(number, len(_SECTIONS))
    return section(run)
