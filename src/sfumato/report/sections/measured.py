"""The sections about what was measured after training: how likely data is, and what more evaluations buy."""

import math
from collections.abc import Callable
from html import escape
from typing import Any

from .. import html, text
from ..charts.certify import certificate_chart
from ..charts.likelihood import likelihood_charts
from ..charts.quality import Point, quality_chart
from ..run import Run

_TERMS = {
    "prior": "prior: what is left of the data in pure noise",
    "steps": "steps: denoising from each level to the next",
    "decoder": "decoder: from the lowest noise to the data's own levels",
}


def likelihood(run: Run) -> str:
    """The bound by term, and where it is spent. Without a measurement, how to make one."""
    return html.section("How likely data is", _measured(run, "likelihood", _likelihood))


def evaluations(run: Run) -> str:
    """The error of samplers against evaluations. Without a measurement, how to make one."""
    if run.process is None:
        return ""
    error = _measured(run, "certify", _evaluations, "the error of the samplers")
    quality = _measured(run, "evaluate", _by_budget, "the quality of the samples", "evaluation", " --nfe 4,8,16,32")
    return html.section("What more evaluations buy", error + quality)


def _measured(
    run: Run,
    verb: str,
    body: Callable[[dict[str, Any]], str],
    what: str = "it",
    name: str | None = None,
    flags: str = "",
) -> str:
    """A measurement as ``body`` shows it. Without one, or where ``body`` has nothing to show, how to make it."""
    record = run.measured.get(name or verb)
    try:
        shown = "" if record is None else body(record)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        words = (
            f"{name or verb}.json: not as <code>sfumato {verb}</code> writes it. {run.command(verb)} measures again."
        )
        return f'<p class="note">{words}</p>'
    return shown or f'<p class="missing">Not measured yet. {run.command(verb, flags)} measures {what}.</p>'


def _by_budget(record: dict[str, Any]) -> str:
    """The quality of samples by several numbers of evaluations, in the last space."""
    space = record["rows"][-1]["space"]
    points: list[Point] = [
        (float(n), {row["name"]: row for row in rows if row["space"] == space})
        for n, rows in [(each["evaluations"], each["rows"]) for each in record.get("budgets", [])]
    ]
    if not points:
        return ""
    own = record["sampler"].get("evaluations")
    if isinstance(own, int) and own not in {n for n, _ in points}:
        points.append((float(own), {row["name"]: row for row in record["rows"] if row["space"] == space}))
    points.sort(key=lambda point: point[0])
    caption = (
        f"{record['count']:,} samples in {escape(str(space))} by the default sampler, with intervals of 95 %. Dashed: "
        "as much real data. Where intervals overlap, more evaluations buy nothing that these samples could show."
    )
    return html.figure(quality_chart(points), caption, wide=True)


def _likelihood(record: dict[str, Any]) -> str:
    bound = record["bound"]
    kind = "a density in the data's units" if record["density"] else "a probability"
    lead = (
        f"<p>The model needs at most <strong>{_bits(bound)} bits per dimension</strong> for {record['samples']:,} "
        f"samples of {escape(str(record['data']))} ({kind}; ± is one standard error). The bound is the sum of its "
        f"terms; less is better, and the difference between two models is meaningful if they saw the same data.</p>"
    )
    rows = [(words, _bits(bound["terms"][name])) for name, words in _TERMS.items()]
    rows.append(("bound (−ELBO)", _bits(bound)))
    if record["flow"] is not None:
        rows.append(("flow (probability-flow ODE)", _bits(record["flow"])))
    if record["against"] is not None:
        rows += [
            (f"separates {record['against']['name']} by {name}", f"AUROC {text.figure(each['value'])}")
            for name, each in record["against"]["auroc"].items()
        ]
    charts = html.beside((html.figure(chart, caption) for chart, caption in likelihood_charts(record)), "three")
    return lead + html.table(rows) + charts


def _bits(numbers: dict[str, Any]) -> str:
    error = numbers["standard_error"]
    return f"{numbers['bits_per_dim']:.4f}".replace("-", "−") + ("" if error is None else f" ± {error:.2g}")


def _evaluations(record: dict[str, Any]) -> str:
    cells = {row["method"]: row["entries"] for row in record["methods"]}
    own = [cell for cell in cells.get("auto", []) if math.isfinite(cell.get("median", math.nan))]
    lead = ""
    if own:
        first, last = own[0], own[-1]
        lead = (
            f"<p>With the default sampler the median sample is {text.figure(first['median'], 2)} from its exact end at "
            f"{first['budget']} evaluations and {text.figure(last['median'], 2)} at {last['budget']}; the data has a "
            f"standard deviation of {text.figure(record['deviation'], 2)} in these units. "
        )
        enough = next((cell for cell in own if cell["rms"] < 0.01 * record["deviation"]), None)
        lead += (
            f"From {enough['budget']} evaluations on, the root mean square error is below 1 % of that.</p>"
            if enough
            else f"At {last['budget']} the root mean square error is still "
            f"{last['rms'] / record['deviation']:.1%} of that.</p>"
        )
    caption = (
        f"Distance of {record['samples']:,} samples to the ends of exact paths from the same noise, in model units. "
        "Gray: other methods. This is the sampler's error, not the model's: below a few per cent it cannot be seen."
    )
    return lead + html.figure(certificate_chart(record), caption, wide=True)
