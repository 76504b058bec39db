"""What a model card says about a run: facts in words, and the measured numbers."""

import math

from . import text
from .run import Run, number


def facts(run: Run) -> dict[str, str]:
    """What was measured, in words."""
    rows = [*run.train, *run.held_out, *([] if run.stop is None else [run.stop])]
    found = {}
    for label, key, show in ((f"{run.noun} seen", "images", text.count), ("training time", "seconds", text.duration)):
        values = [number(row, key) for row in rows]
        largest = max((value for value in values if math.isfinite(value)), default=math.nan)
        if math.isfinite(largest):
            found[label] = show(largest)
    found |= {name: text.figure(value, 4) for name, value in metrics(run).items()}
    return {**found, **dict(run.results)}


def metrics(run: Run) -> dict[str, float]:
    """The measured numbers by name: the held-out loss, bits per dimension, and the measures of ``sfumato evaluate``."""
    found = {}
    if run.held_out:
        found["held-out loss"] = number(run.held_out[-1], "loss")
    bound = run.measured.get("likelihood", {}).get("bound")
    if isinstance(bound, dict):
        found["bits per dimension (bound)"] = number(bound, "bits_per_dim")
    rows = run.measured.get("evaluation", {}).get("rows")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict):
            found[f"{row.get('title') or row.get('name')} ({row.get('space')})"] = number(row, "value")
    return {name: value for name, value in found.items() if math.isfinite(value)}
