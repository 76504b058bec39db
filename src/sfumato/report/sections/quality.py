"""The section about quality: every measure of the samples beside the same for held-out real data."""

import math
from html import escape
from typing import Any

from .. import html, text
from ..drawings import drawing_of
from ..drawings.base import Pairs
from ..run import Run, number

_HEAD = ("samples", "real data", "perfect")


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
        f"<p>{text.count(number(record, 'count'))} samples against real data, in brackets 95 % intervals; ↓ less is "
        "better, ↑ more is better. The middle column is what as many real samples get in their place: a perfect model "
        "would get that.</p>"
    )
    spaces = dict.fromkeys(str(row.get("space", "")) for row in rows)
    blocks = [lead]
    for space in spaces:
        shown = [(_label(row), _cells(row)) for row in rows if str(row.get("space", "")) == space]
        blocks.append(html.titled(f"in {escape(space)}", html.columns(_HEAD, shown)))
    warnings = record.get("warnings")
    if isinstance(warnings, list):
        blocks += [f'<p class="note">{escape(str(warning))}</p>' for warning in warnings]
    blocks.append(_classes(record.get("classes")))
    verdict = record.get("verdict")
    if isinstance(verdict, str) and verdict:
        blocks.append(html.titled("Does it copy?", f"<p>{escape(verdict)}</p>{_closest(run)}"))
    return html.section(title, "".join(blocks))


def _closest(run: Run) -> str:
    """The pairs of samples and training data that look most like copies."""
    samples, nearest, ratios = (run.pairs.get(name) for name in ("samples", "neighbours", "ratios"))
    if samples is None or nearest is None or ratios is None:
        return ""
    drawing = drawing_of(run.spec)
    count = min(drawing.num_pairs, len(samples), len(nearest), len(ratios))
    pairs = Pairs(samples[:count], nearest[:count], ratios[:count], "closest", "ratio")
    shown = drawing.neighbours(pairs, run.gallery.get("real"), run.spec, "")
    words = (
        "The pairs that look most like copies. The ratio is that of the distance to the nearest training sample to "
        "that of the fifth: near 0 for a copy, near 1 for a sample that belongs to none."
    )
    return f'<p class="caption">{words}</p>{shown}' if shown else ""


def _classes(record: Any) -> str:
    """The table of the samples by class. Empty for data without classes."""
    if not isinstance(record, dict) or not isinstance(record.get("classes"), list):
        return ""
    classes = [each for each in record["classes"] if isinstance(each, dict)]
    measures: list[dict[str, Any]] = next(
        (each["rows"] for each in classes if isinstance(each.get("rows"), list) and each["rows"]), []
    )
    head = ["samples", "real data", *(str(row.get("title") or row.get("name")) for row in measures)]
    accuracy, agreement = number(record, "accuracy"), number(record, "agreement")
    how = (
        f"Classes are those that were asked for; a classifier of real data agrees with {agreement:.0%} of them"
        if record.get("asked")
        else "Classes are those that a classifier of real data sees"
    )
    words = (
        f"<p>{how}. It is right for {accuracy:.0%} of other real data. In brackets: as much real data of the class.</p>"
    )
    rows = []
    for each in classes:
        shares = [f"{number(each, key):.1%}" for key in ("share", "real_share")]
        found = each.get("rows") or [{}] * len(measures)
        cells = [f"{_plain(row, 'value')}\n({_plain(row, 'real_value')})" if row else "–" for row in found]
        rows.append((str(each.get("name")), [*shares, *cells]))
    return html.titled(f"by class, in {escape(str(record.get('space')))}", words + html.columns(head, rows))


def _plain(row: dict[str, Any], key: str) -> str:
    value = number(row, key)
    return text.figure(value) if math.isfinite(value) else "–"


def _label(row: dict[str, Any]) -> str:
    direction = {"lower": " ↓", "higher": " ↑"}.get(str(row.get("better")), "")
    return str(row.get("title") or row.get("name") or "?") + direction


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
    return f"{text.figure(middle)}\n[{text.figure(bottom)}, {text.figure(top)}]"  # two lines on a phone, one elsewhere
