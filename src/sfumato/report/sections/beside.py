"""The section that puts a run beside others: what they are, how good, their losses, their samples."""

import math
from collections.abc import Sequence

from .. import html, text
from ..charts.training import held_out_curves
from ..drawings import drawing_of
from ..run import Run, number

_SHOWN = 36  # samples of each run


def beside(run: Run, others: Sequence[Run]) -> str:
    """A table with a column per run, their held-out losses and samples. Empty without other runs."""
    if not others:
        return ""
    runs = [run, *others]
    names = _names(runs)
    facts = [(label, [value(each) for each in runs]) for label, value in _FACTS]
    shown = html.columns(names, [*facts, *_measures(runs)])
    shared = [each.spec.fingerprint == run.spec.fingerprint for each in runs]
    words = (
        ""
        if all(shared)
        else '<p class="note">Not all runs saw the same data, so their losses and bits cannot be compared.</p>'
    )
    measured = [(name, each) for name, each in zip(names, runs, strict=True) if each.held_out]
    if measured and len({each.recipe.loss_is_bound for _, each in measured}) == 1:
        curves = held_out_curves([(name, each.held_out) for name, each in measured], run.noun, run.loss_name)
        caption = (
            "Loss on held-out data. Only losses of the same kind can be compared: the target and the weighting decide."
        )
        shown += html.figure(curves, caption)
    pictures = []
    for name, each in zip(names, runs, strict=True):
        drawn = each.gallery.get("samples")
        if drawn is not None:
            picture = drawing_of(each.spec).picture(drawn[:_SHOWN], each.spec, each.gallery.get("real"))
            pictures.append(html.titled(name, html.figure(html.image(picture, f"Samples of {name}"), "")))
    return html.section("Beside other runs", words + shown + html.beside(pictures, "three"))


def _names(runs: Sequence[Run]) -> list[str]:
    """The names of the folders, with those of their parents where two are alike."""
    paths = [each.folder.path.resolve() for each in runs]
    plain = [path.name for path in paths]
    return [
        name if plain.count(name) == 1 else f"{path.parent.name}/{name}"
        for name, path in zip(plain, paths, strict=True)
    ]


def _measures(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """The measures of ``sfumato evaluate`` that some run has, with the value of each run."""
    found: dict[str, dict[int, str]] = {}
    for k, each in enumerate(runs):
        rows = each.measured.get("evaluation", {}).get("rows", [])
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and math.isfinite(number(row, "value")):
                label = f"{row.get('title') or row.get('name')} in {row.get('space')}"
                found.setdefault(label, {})[k] = text.figure(number(row, "value"))
    return [(label, [values.get(k, "–") for k in range(len(runs))]) for label, values in found.items()]


def _bits(run: Run) -> str:
    found = run.measured.get("likelihood", {}).get("bound")
    if not isinstance(found, dict) or not math.isfinite(number(found, "bits_per_dim")):
        return "–"
    error = number(found, "standard_error")
    return text.figure(number(found, "bits_per_dim"), 4) + (f" ± {error:.2g}" if math.isfinite(error) else "")


def _best(run: Run) -> str:
    best = run.best_held_out()
    return "–" if best is None else text.figure(number(best, "loss"))


def _last(run: Run, key: str) -> float:
    rows = [*run.train, *run.held_out, *([] if run.stop is None else [run.stop])]
    values = [number(row, key) for row in rows]
    return max((value for value in values if math.isfinite(value)), default=math.nan)


_FACTS = (
    ("data", lambda run: run.spec.source),
    ("recipe", lambda run: run.recipe.name),
    ("parameters", lambda run: text.count(run.num_parameters)),
    ("samples seen", lambda run: text.count(_last(run, "images"))),
    ("training time", lambda run: text.duration(_last(run, "seconds"))),
    ("best held-out loss", _best),
    ("bits per dimension (bound)", _bits),
)
