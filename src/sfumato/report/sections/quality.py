"""The section about quality: every measure of the samples beside the same for held-out real data."""

import math
from html import escape
from typing import Any

from .. import html, text
from ..run import Run, number

_HEAD = ("samples", "real held-out data", "perfect")


def quality(run: Run) -> str:
    """The table of ``sfumato evaluate``. Without one, how to make it."""
    title, record = "Is it any good", run.measured.get("evaluation")
    if record is None:
        missing = f'<p class="missing">Not measured yet. {run.command("evaluate")} measures it.</p>'
        return html.section(title, missing)
    rows = record.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        words = f"evaluation.json is damaged; {run.command('evaluate')} measures again"
        return html.section(title, f'<p class="note">{words}.</p>')
    lead = (
        f"<p>{text.count(number(record, 'count'))} samples against real data, in brackets 95 % intervals. The middle "
        "column is what as many real samples that training did not see get: a perfect model would get that.</p>"
    )
    spaces = dict.fromkeys(str(row.get("space", "")) for row in rows)
    blocks = [lead]
    for space in spaces:
        shown = [(_label(row), _cells(row)) for row in rows if str(row.get("space", "")) == space]
        blocks.append(html.titled(f"in {escape(space)}", html.columns(_HEAD, shown)))
    verdict = record.get("verdict")
    if isinstance(verdict, str) and verdict:
        blocks.append(html.titled("Does it copy?", f"<p>{escape(verdict)}</p>"))
    return html.section(title, "".join(blocks))


def _label(row: dict[str, Any]) -> str:
    direction = {"lower": "less is better", "higher": "more is better"}.get(str(row.get("better")), "")
    name = str(row.get("title") or row.get("name") or "?")
    return f"{name} ({direction})" if direction else name


def _cells(row: dict[str, Any]) -> list[str]:
    ideal = number(row, "ideal")
    return [
        _interval(row, "value", "low", "high"),
        _interval(row, "real_value", "real_low", "real_high"),
        text.figure(ideal) if math.isfinite(ideal) else "",
    ]


def _interval(row: dict[str, Any], value: str, low: str, high: str) -> str:
    middle, bottom, top = (number(row, key) for key in (value, low, high))
    if not math.isfinite(middle):
        return "–"
    if not (math.isfinite(bottom) and math.isfinite(top)):
        return text.figure(middle)
    return f"{text.figure(middle)} [{text.figure(bottom)}, {text.figure(top)}]"
