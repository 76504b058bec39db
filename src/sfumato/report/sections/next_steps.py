"""The section about how to go on: the commands that are most useful next, with this run's paths."""

from .. import html
from ..run import Run

MOST = 3


def next_steps(run: Run) -> str:
    """At most three commands, each with what it is for; those that the run has not seen yet come first."""
    found = steps(run)[:MOST]
    rows = "".join(f"<li>{run.command(verb)}<br>{why}</li>" for verb, why in found)
    return html.section("How to go on", f'<ol class="next">{rows}</ol>')


def steps(run: Run) -> list[tuple[str, str]]:
    """The verbs that apply to this run and why, the most useful first."""
    unfinished = run.stop is None or run.stop.get("reason") in ("interrupted", "terminated", "asked", "non-finite")
    going_on = (
        ("train --resume", "finishes the training.")
        if unfinished
        else ("train --budget 10m --resume", "trains ten more minutes; the page is written again at the end.")
    )
    first = [
        ("evaluate", "measures quality and copying, beside the same numbers for real held-out data."),
        ("likelihood", "measures how likely the held-out data is, in bits per dimension with an error bar."),
        ("certify", "measures how many evaluations the samplers need on this model."),
    ]
    if run.process is None:
        first.pop()
    missing = [step for step in first if {"evaluate": "evaluation"}.get(step[0], step[0]) not in run.measured]
    still_falling = run.held_out and run.best_held_out() is run.held_out[-1]
    urgent = [going_on] if unfinished or still_falling else []
    rest = [] if urgent else [going_on]
    return [*urgent, ("sample", "draws new samples, as a picture and as an array."), *missing, *rest]
