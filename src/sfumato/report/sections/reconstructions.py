"""The section of what was reconstructed, denoised and interpolated with a run, and how far its bands can be trusted."""

from html import escape
from typing import Any

from PIL import Image

from sfumato.runs.folder import Outcome

from .. import html, text
from ..charts.certify_reconstruction import calibration_chart
from ..run import Run

_MOST = 4  # folders that are shown, the newest
_WIDEST = 1000  # pixels of a picture


def reconstructions(run: Run) -> str:
    """Reconstructions and their calibration. Empty where there are none."""
    record = run.measured.get("certify-reconstruction")
    shown = _calibration(record) if record is not None else ""
    older = run.outcomes[:-_MOST]
    shown += html.beside(_outcome(each) for each in reversed(run.outcomes[-_MOST:])) if run.outcomes else ""
    if older:
        names = ", ".join(f"<code>{escape(each.folder.name)}</code>" for each in older)
        shown += f'<p class="note">Older results, which are not shown: {names}.</p>'
    return html.section("Reconstructions", shown) if shown else ""


def _calibration(record: dict[str, Any]) -> str:
    try:
        chart, sentences = calibration_chart(record), [str(each) for each in record["verdict"]]
        operator, noise = escape(str(record["operator"])), text.figure(record["noise"])
    except (KeyError, TypeError, ValueError, IndexError):
        return (
            '<p class="note">certify-reconstruction.json: not as <code>sfumato certify --operator</code> writes it; '
            "certify again.</p>"
        )
    words = "".join(f"<p>{escape(each)}</p>" for each in sentences)
    caption = (
        f"Operator {operator}, noise {noise}. Left: the share of true values within bands; below the dotted line bands "
        "are too narrow. Right: where true values lie among the draws."
    )
    return words + html.figure(chart, caption, wide=True)


def _outcome(outcome: Outcome) -> str:
    name = outcome.folder.name
    try:
        words = _words(outcome.record)
        if outcome.picture is None:
            return f'<p class="note">{escape(name)}: its picture is gone.</p>'
        with Image.open(outcome.picture, formats=("PNG",)) as file:
            picture = file.convert("RGB")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError):
        return f'<p class="note">{escape(name)}: its files cannot be read, so it is left out.</p>'
    if picture.width > _WIDEST:
        picture.thumbnail((_WIDEST, picture.height), Image.Resampling.LANCZOS)
    body = html.figure(html.image(picture, f"Reconstruction {name}", kind="sheet"), escape(words))
    return html.titled(f"<code>{escape(name)}</code>", body)


def _words(record: dict[str, Any]) -> str:
    """What the folder holds, in a line."""
    verb, given = record["command"].split()[1], record["settings"]
    if verb in ("reconstruct", "inpaint"):
        rows = record["measurements"]
        least = f"Least p-value of a residual: {text.figure(min(row['p_value'] for row in rows))}"
        evidence = [row["evidence_p_value"] for row in rows if row["evidence_p_value"] is not None]
        least += f", of an evidence: {text.figure(min(evidence))}" if evidence else ""
        what = f"operator {given['operator']}, " if verb == "reconstruct" and given["operator"] is not None else ""
        return (
            f"{verb}: {what}noise {given['noise']}, {len(rows):,} measurement{'s' * (len(rows) > 1)}, "
            f"{record['method']}. {least}; below 0.01 the model does not explain the measurement."
        )
    if verb == "denoise":
        levels = [row["sigma"] for row in record["samples"]]
        ends = sorted({text.figure(min(levels)), text.figure(max(levels))})
        how = "estimated noise" if record["estimated"] else "noise"
        count = f"{len(levels):,} sample{'s' * (len(levels) > 1)}"
        return f"denoise: {count}, {how} {' to '.join(ends)} in the units of the data."
    return f"{verb}: {given['frames']} frames, {given['mode']}, mixed at t = {text.figure(given['at'])}."
