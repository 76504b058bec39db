"""The sections about the run: heading, results, training, process, recipe, data contract. What is read is escaped."""

import math
from html import escape

import numpy as np
import yaml

from sfumato.data.spec import DataSpec

from . import figures, text
from .parts import beside, command, figure, folded, missing, section, table, things, titled
from .run import Row, Run, number, series


def heading(run: Run) -> str:
    """Title, facts and whatever the reader must know before anything else."""
    about = [f"recipe {escape(recipe_name(run))}"]
    parameters = number(run.config, "parameters")
    if math.isfinite(parameters):
        about.append(f"{text.count(parameters)} parameters")
    about.append(_size(run.spec))
    title = f'<h1>{escape(run.spec.source)}</h1>\n<p class="under">{" · ".join(about)}</p>'
    return f"{title}\n{_facts(run)}\n{_notes(run)}"


def recipe_name(run: Run) -> str:
    """The recipe's own name."""
    return str(run.config["recipe"].get("name", "custom"))


def _size(spec: DataSpec) -> str:
    return spec.layout.describe(spec.shape).replace(" x ", " × ")


def _facts(run: Run) -> str:
    noun = things(run)
    rows = [*run.train, *run.held_out, *([] if run.stop is None else [run.stop])]
    facts = [
        (label, show(value), "")
        for label, value, show in (
            (f"{noun} seen", _largest(rows, "images"), text.count),
            ("steps", _largest(rows, "step"), text.count),
            ("wall-clock time", _largest(rows, "seconds"), text.duration),
            (f"{noun} a second", _median(run.train, "images_per_second"), text.count),
        )
        if math.isfinite(value)
    ]
    held_out = run.config["recipe"].get("training", {}).get("held_out")
    facts.append(("samples of data", text.count(run.spec.count), f"{held_out:.0%} held out" if held_out else ""))
    best = best_held_out(run)
    if best is not None:
        where = f"at {text.count(number(best, 'images'))} {noun}"
        facts.append(("best held-out loss", text.figure(number(best, "loss")), where))
        facts.append(("last held-out loss", text.figure(number(run.held_out[-1], "loss")), ""))
    cells = (f"<div><dt>{a}</dt><dd>{b}{f'<small>{c}</small>' if c else ''}</dd></div>" for a, b, c in facts)
    return f'<dl class="facts">{"".join(cells)}</dl>'


def _notes(run: Run) -> str:
    notes = []
    resume = command(run, "train --resume")
    reason = None if run.stop is None else run.stop.get("reason")
    if reason in ("interrupted", "terminated", "asked"):
        notes.append(f"Training was interrupted before its end. {resume} goes on from where it stopped.")
    elif reason == "non-finite":
        notes.append(
            "Training stopped at a loss that was not finite: lower <code>training.learning_rate</code>, or look for "
            "extreme values in the data."
        )
    elif run.stop is None and (run.train or run.held_out):
        notes.append(f"Training is still going on, or was killed; {resume} goes on from its last checkpoint.")
    notes += [escape(problem) for problem in run.problems]
    return "\n".join(f'<p class="note">{note}</p>' for note in notes)


def results(run: Run) -> str:
    """The table of measured results, or nothing."""
    return section("Results", table(run.results)) if run.results else ""


def training(run: Run) -> str:
    """Loss curves, loss by noise level, and what they say."""
    resume = command(run, "train --resume")
    if not run.train and not run.held_out:
        return section("Training", missing("No measurements in metrics.jsonl yet", resume))
    noun = things(run)
    random, fixed = ("noise levels", "levels and noises") if run.process is not None else ("latents", "noises")
    loss = figure(
        figures.loss_curves(run.train, run.held_out, noun, run.loss),
        f"The steps' own losses (gray) scatter with their random {random}. The two measurements use the averaged "
        f"weights on fixed {fixed}, so they compare with each other: a held-out curve that rises away from "
        f"its training twin means over-fitting. {_gap(run)}",
    )
    measured = [row for row in run.held_out if _has_levels(row)]
    levels = (
        figure(
            figures.loss_by_level(measured),
            "To the left almost all is noise, to the right almost all is data. The model has improved where the strong "
            "line is below the faint one; a gap to the training twin on the right is memorised detail.",
        )
        if measured
        else missing("No held-out measurements yet", resume)
    )
    blocks = [titled("Loss", loss)]
    if run.process is not None:
        blocks.append(titled("Loss by noise level", levels))
    body = beside(blocks)
    if run.train:
        pace = f'<figure><div class="scroll">{figures.pace(run.train, noun)}</div></figure>'
        body += folded("Learning rate and throughput", pace)
    if run.average is not None:
        body += folded("Averages of the weights", _averages(run.average))
    return section("Training", body)


def _averages(row: Row) -> str:
    """The held-out bounds of the averages that were to choose from, the chosen one named."""
    said = "<p>The weights that the model has are an average over the training, in which the late ones count most. Of "
    said += "several lengths, as a share of the whole training, the one with the lowest held-out bound was taken.</p>"
    rows = [
        (f"{width:.0%}{', taken' if width == row.get('width') else ''}", f"{bound:.4f} nats per dimension")
        for width, bound in row["bounds"]
    ]
    return said + table(rows)


def _gap(run: Run) -> str:
    """The last held-out loss against its twin and against the best, in words."""
    best = best_held_out(run)
    if best is None:
        return ""
    ours, twin = number(run.held_out[-1], "loss"), number(run.held_out[-1], "train_loss")
    if not (math.isfinite(ours) and twin > 0):
        return ""
    gap = f"At the end held-out loss is {abs(ours / twin - 1):.0%} {'above' if ours >= twin else 'below'} its twin"
    if ours > 1.02 * number(best, "loss"):
        return f"{gap}; it was lowest at {text.count(number(best, 'images'))} {things(run)}."
    return f"{gap}, and at its lowest."


def process(run: Run) -> str:
    """The schedule and what its end costs; nothing for a hierarchical VAE."""
    if run.process is None:
        return ""
    captions = (
        "x<sub>t</sub> = α x<sub>0</sub> + σ ε, with t = 0 data.",
        "How much signal is left: log(α²/σ²).",
        "Where the levels lie: the effort goes where this is high.",
    )
    plots = beside(
        (figure(plot, caption) for plot, caption in zip(figures.schedule(run.process), captions, strict=True)), "three"
    )
    looked = [row for row in run.held_out if _has_emphasis(row)]
    if looked:
        seen = figure(
            figures.relative_weight(looked[-1]),
            "What the loss looks at: its weight at each level times how often the level is drawn, relative to the "
            "bound (ELBO), which looks at all alike (dotted); the greatest is 1. Where it is low on the right it "
            "neglects fine detail, on the left what samples have in common.",
        )
        plots += beside([seen])
    prior = run.process.check_prior(run.spec.second_moment)
    cost = (
        "Sampling starts from pure noise, while at t = 1 the process has a share of "
        f"{text.figure(prior.signal, 2)} of the signal left. The mismatch costs L<sub>T</sub> = "
        f"{text.figure(prior.bits_per_dim, 2)} bits/dim"
    )
    if prior.warning is None:
        return section("The process", f"<p>{cost}, too little to matter.</p>{plots}")
    warning = escape(prior.warning[0].upper() + prior.warning[1:])
    return section("The process", f'<p>{cost}.</p><p class="note">{warning}.</p>{plots}')


def _has_emphasis(row: Row) -> bool:
    pairs = row.get("relative_weight")
    return (
        isinstance(pairs, list)
        and len(pairs) > 1
        and all(isinstance(p, list) and len(p) == 2 and all(isinstance(v, (int, float)) for v in p) for p in pairs)
    )


def details(run: Run) -> str:
    """The recipe as YAML and the data contract as a table, folded."""
    recipe = yaml.safe_dump(run.config["recipe"], sort_keys=False, allow_unicode=True, width=100)
    shown = folded("The recipe", f"<pre><code>{escape(recipe)}</code></pre>")
    return f'<div class="ends">{shown}{folded("The data contract", table(contract(run.spec)))}</div>'


def contract(spec: DataSpec) -> list[tuple[str, str]]:
    """The data contract as (name, value) pairs in words."""
    classes = zip(spec.class_names, spec.class_counts, strict=True)
    return [
        ("source", spec.source),
        ("samples", text.count(spec.count)),
        ("layout", spec.layout.name),
        ("shape, channels first" if len(spec.shape) > 1 else "shape", " × ".join(map(str, spec.shape))),
        ("channels", ", ".join(spec.channels) or "unnamed"),
        ("type", spec.dtype),
        *spec.transform.describe(),
        ("second moment, model units", f"{spec.second_moment:.4g}"),
        ("classes", ", ".join(f"{name} ({text.count(n)})" for name, n in classes) or "none"),
        ("fingerprint (SHA-256)", spec.fingerprint),
    ]


def best_held_out(run: Run) -> Row | None:
    """The held-out row with the lowest finite loss."""
    measured = [row for row in run.held_out if math.isfinite(number(row, "loss"))]
    return min(measured, key=lambda row: number(row, "loss"), default=None)


def _has_levels(row: Row) -> bool:
    levels = row.get("levels")
    return isinstance(levels, list) and bool(levels) and all(isinstance(level, dict) for level in levels)


def _largest(rows: list[Row], key: str) -> float:
    values = series(rows, key)
    return float(values[np.isfinite(values)].max(initial=-math.inf))


def _median(rows: list[Row], key: str) -> float:
    values = series(rows, key)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else math.nan
