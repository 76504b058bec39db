"""The sections about training and about the process that it is for."""

import math
from html import escape

from .. import html, text
from ..charts import process as process_charts
from ..charts import training as charts
from ..run import Row, Run, is_pairs, number


def training(run: Run) -> str:
    """Loss over time and over noise levels, and what it means."""
    resume = run.command("train --resume")
    if not run.train and not run.held_out:
        return html.section("Training", html.missing("No measurements in metrics.jsonl yet", resume))
    random, fixed = ("noise levels", "noise levels and noises") if run.process is not None else ("latents", "noises")
    loss = html.figure(
        charts.loss_curves(run.train, run.held_out, run.noun, run.loss_name),
        f"Gray: the loss of training steps, which varies with their random {random}. The two measurements use the "
        f"averaged weights and fixed {fixed}, so they can be compared: a held-out curve that rises away from the "
        f"curve of the training data means over-fitting. {_gap(run)}",
    )
    blocks = [html.titled("Loss", loss)]
    if run.process is not None:
        blocks.append(html.titled("Loss by noise level", _by_level(run)))
    body = html.beside(blocks)
    if run.train:
        pace = f'<figure><div class="scroll">{charts.pace(run.train, run.noun)}</div></figure>'
        body += html.folded("Learning rate and throughput", pace)
    if run.average is not None:
        body += html.folded("Averages of the weights", _averages(run.average))
    return html.section("Training", body)


def _by_level(run: Run) -> str:
    measured = [row for row in run.held_out if _has_levels(row)]
    if not measured:
        return html.missing("No held-out measurements yet", run.command("train --resume"))
    return html.figure(
        charts.loss_by_level(measured),
        "On the left almost everything is noise, on the right almost everything is data. The model has improved where "
        "the strong blue line is below the faint one. A gap between held-out and training data on the right is "
        "memorised detail.",
    )


def _averages(row: Row) -> str:
    """The held-out bound of each average of the weights, with the chosen one marked."""
    lead = (
        "<p>The weights of the model are an average over training in which late weights count most. Several averaging "
        "windows, given as a percentage of the whole training, were compared. The one with the lowest held-out bound "
        "was chosen.</p>"
    )
    rows = [
        (f"{width:.0%}{', chosen' if width == row.get('width') else ''}", f"{bound:.4f} nats per dimension")
        for width, bound in row["bounds"]
    ]
    return lead + html.table(rows)


def _gap(run: Run) -> str:
    """The last held-out loss in words, against that of the training data and against the best one."""
    best = run.best_held_out()
    if best is None:
        return ""
    ours, twin = number(run.held_out[-1], "loss"), number(run.held_out[-1], "train_loss")
    if not (math.isfinite(ours) and twin > 0):
        return ""
    side = "above" if ours >= twin else "below"
    gap = f"At the end the held-out loss is {abs(ours / twin - 1):.0%} {side} the loss on training data"
    lowest = number(best, "loss")
    if ours > lowest:
        return f"{gap}; it was lowest, {text.figure(lowest)}, at {text.count(number(best, 'images'))} {run.noun}."
    return f"{gap}, and at its lowest."


def process(run: Run) -> str:
    """The process and the cost of the signal that its end leaves. Empty for a model without a process."""
    if run.process is None:
        return ""
    captions = (
        "x<sub>t</sub> = α x<sub>0</sub> + σ ε; t = 0 is data.",
        "How much signal is left: log(α²/σ²).",
        "How the noise levels are spread: most effort goes where the density is high.",
    )
    drawn = zip(process_charts.process_charts(run.process), captions, strict=True)
    plots = html.beside((html.figure(plot, caption) for plot, caption in drawn), "three")
    weighted = [row for row in run.held_out if _has_weight(row)]
    if weighted:
        weight = html.figure(
            charts.relative_weight(weighted[-1]),
            "How the loss weights noise levels: its weight at each level times how often the level is drawn, relative "
            "to the bound (ELBO), which weights all levels equally (dotted). The maximum is 1. Where the weight is low "
            "on the right, fine detail is neglected; on the left, what all samples have in common.",
        )
        plots += html.beside([weight])
    prior = run.process.check_prior(run.spec.second_moment)
    cost = (
        f"Sampling starts from pure noise, but at t = 1 the process still has {text.figure(prior.signal, 2)} of the "
        f"signal. This mismatch costs L<sub>T</sub> = {text.figure(prior.bits_per_dim, 2)} bits/dim"
    )
    if prior.warning is None:
        return html.section("The process", f"<p>{cost}, which is negligible.</p>{plots}")
    warning = escape(prior.warning[0].upper() + prior.warning[1:])
    return html.section("The process", f'<p>{cost}.</p><p class="note">{warning}.</p>{plots}')


def _has_levels(row: Row) -> bool:
    levels = row.get("levels")
    return isinstance(levels, list) and bool(levels) and all(isinstance(level, dict) for level in levels)


def _has_weight(row: Row) -> bool:
    pairs = row.get("relative_weight")
    return isinstance(pairs, list) and len(pairs) > 1 and is_pairs(pairs)
