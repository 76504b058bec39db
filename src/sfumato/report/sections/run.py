"""The sections about the run as a whole: heading, results, recipe and data contract. What is read is escaped."""

import math
from html import escape

import numpy as np
import yaml

from sfumato.data.spec import DataSpec

from .. import html, text
from ..run import Row, Run, number, series
from ..verdict import verdict


def heading(run: Run) -> str:
    """Title, facts, and whatever the reader must know first."""
    about = [f"recipe {escape(run.recipe.name)}"]
    if math.isfinite(run.num_parameters):
        about.append(f"{text.count(run.num_parameters)} parameters")
    about.append(text.by(run.spec.layout.describe(run.spec.shape)))
    title = f'<h1>{escape(run.spec.source)}</h1>\n<p class="under">{" · ".join(about)}</p>'
    return f"{title}\n{_facts(run)}\n{_notes(run)}"


def _facts(run: Run) -> str:
    noun = run.noun
    rows = [*run.train, *run.held_out, *([] if run.stop is None else [run.stop])]
    facts = [
        (label, show(value), "")
        for label, value, show in (
            (f"{noun} seen", _largest(rows, "images"), text.count),
            ("steps", _largest(rows, "step"), text.count),
            ("wall-clock time", _largest(rows, "seconds"), text.duration),
            (f"{noun} per second", _median(run.train, "images_per_second"), text.count),
        )
        if math.isfinite(value)
    ]
    held_out = f"{run.recipe.training.held_out:.0%} held out"
    facts.append(("samples in the data", text.count(run.spec.count), held_out))
    best = run.best_held_out()
    if best is not None:
        where = f"{_error(best)} at {text.count(number(best, 'images'))} {noun}".strip()
        facts.append(("best held-out loss", text.figure(number(best, "loss")), where))
        facts.append(("last held-out loss", text.figure(number(run.held_out[-1], "loss")), _error(run.held_out[-1])))
    cells = (f"<div><dt>{a}</dt><dd>{b}{f'<small>{c}</small>' if c else ''}</dd></div>" for a, b, c in facts)
    return f'<dl class="facts">{"".join(cells)}</dl>'


def _error(row: Row) -> str:
    """The standard error of a held-out loss."""
    error = number(row, "error")
    return f"± {text.figure(error, 2)}" if math.isfinite(error) else ""


def _notes(run: Run) -> str:
    notes = []
    sentences = [escape(sentence) for sentence in verdict(run)]
    if sentences:
        notes.append(f"<strong>{sentences[0]}</strong> {' '.join(sentences[1:])}")
    resume = run.command("train --resume")
    reason = None if run.stop is None else run.stop.get("reason")
    if reason in ("interrupted", "terminated", "asked"):
        notes.append(f"Training was interrupted. {resume} continues where it stopped.")
    elif reason == "non-finite":
        notes.append(
            "Training stopped because the loss was not finite. Lower <code>training.learning_rate</code>, or look for "
            "extreme values in the data."
        )
    elif run.stop is None and (run.train or run.held_out):
        notes.append(f"Training is still running, or was killed. {resume} continues from its last checkpoint.")
    notes += [escape(problem) for problem in run.problems]
    return "\n".join(f'<p class="note">{note}</p>' for note in notes)


def results(run: Run) -> str:
    """The table of measured results. Empty without results."""
    return html.section("Results", html.table(run.results)) if run.results else ""


def details(run: Run) -> str:
    """The recipe as YAML and the data contract as a table, both folded."""
    recipe = yaml.safe_dump(run.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    shown = html.folded("The recipe", f"<pre><code>{escape(recipe)}</code></pre>")
    return f'<div class="ends">{shown}{html.folded("The data contract", html.table(contract(run.spec)))}</div>'


def contract(spec: DataSpec) -> list[tuple[str, str]]:
    """The data contract as pairs of a name and a value in words."""
    classes = zip(spec.class_names, spec.class_counts, strict=True)
    axis = spec.axis
    return [
        ("source", spec.source),
        ("samples", text.count(spec.count)),
        ("layout", spec.layout.name),
        ("shape, channels first" if spec.layout.rank > 1 else "shape", text.by(" x ".join(map(str, spec.shape)))),
        ("channels", ", ".join(spec.channels) or "unnamed"),
        *([] if axis is None else [("axis", f"{axis.label}, {axis.values[0]:.4g} to {axis.values[-1]:.4g}")]),
        ("type", spec.dtype),
        *spec.transform.describe(),
        ("second moment, model units", f"{spec.second_moment:.4g}"),
        ("classes", ", ".join(f"{name} ({text.count(n)})" for name, n in classes) or "none"),
        *([("given numbers", ", ".join(each.name for each in spec.conditions))] if spec.conditions else []),
        ("fingerprint (SHA-256)", spec.fingerprint),
    ]


def _largest(rows: list[Row], key: str) -> float:
    values = series(rows, key)
    return float(values[np.isfinite(values)].max(initial=-math.inf))


def _median(rows: list[Row], key: str) -> float:
    values = series(rows, key)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else math.nan
