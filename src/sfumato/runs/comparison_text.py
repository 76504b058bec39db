"""The tables and sentences of ``sfumato compare``: cost, samples, likelihoods, and which recipe is best by how much."""

from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.reporting import duration

CLEAR = 2.0  # a difference above this many standard errors counts as clear
_UNITS = {"bound": ("bits/dim", 4), "flow": ("bits/dim", 4), "samples": ("times the floor", 2)}

Row = Mapping[str, Any]


def lines(record: Mapping[str, Any]) -> list[str]:
    """The tables and sentences of a comparison's record, for a terminal of 110 columns."""
    rows, standings = record["recipes"], record["standings"]
    goal = f"{record['goal']['steps']:,} steps" if "steps" in record["goal"] else duration(record["goal"]["seconds"])
    width = max(len("recipe"), *(len(row["recipe"]) for row in rows))
    recognised = [row for row in rows if row["recognition"] is not None]
    found = [
        f"{record['source']}: {record['data']['train']:,} training samples, {goal} per recipe, seed {record['seed']}",
        "",
        f"{'recipe':<{width}} {'images':>11} {'seconds':>8} {'images/s':>9}   {'sampler':<12} {'evals':>5} "
        f"{'seconds':>8}   {'distance / floor':<18}{'recognised' if recognised else ''}",
        *(_made(row, width) for row in rows),
        *_about_samples(rows, recognised),
        "",
        f"bits/dim of {record['scored']} held-out samples{', densities' if record['density'] else ''}: ± standard "
        "error (error of the method); over the best: paired by sample",
        f"{'recipe':<{width}}  {'bound':<26}{'over the best':<22}{'flow':<26}{'over the best'}",
        *(_scored(row, standings, width) for row in rows),
        "",
        *(f"{row['recipe']}: no {part}: {why}" for row in rows for part, why in row["reasons"].items()),
        *verdicts(rows, standings),
    ]
    return [line.rstrip() for line in found]


def verdicts(rows: Sequence[Row], standings: Mapping[str, Any]) -> list[str]:
    """One sentence per measure by which at least two recipes can be compared."""
    found = {row["recipe"]: row for row in rows}
    return [_verdict(part, standings[part], found) for part in _UNITS if part in standings and standings[part]["over"]]


def _verdict(part: str, standing: Mapping[str, Any], rows: Mapping[str, Row]) -> str:
    unit, places = _UNITS[part]
    best, over = standing["best"], standing["over"]
    value = rows[best][part]["ratio" if part == "samples" else "bits_per_dim"]
    head = f"best by {part}: {best}, {_number(value, places)} {unit}"
    ranked = sorted(over, key=lambda other: float(over[other]["mean"]))
    if any(over[other]["error"] is None for other in ranked):
        return f"{head}; one sample has no error, so it is unknown whether the others are worse"
    near = [other for other in ranked if over[other]["mean"] <= CLEAR * over[other]["error"]]
    if near:
        listed = ", ".join(f"{other} (+{_both(**over[other], places=places)})" for other in near)
        verb = "is" if len(near) == 1 else "are"
        return f"{head}; not clearly: {listed} {verb} within {CLEAR:g} standard errors"
    after = over[ranked[0]]
    times = f", {after['mean'] / after['error']:.0f} standard errors" if after["error"] else ""
    return f"{head}; clearly: next is {ranked[0]}, +{_both(**after, places=places)}{times}"


def _made(row: Row, width: int) -> str:
    training, samples, recognised = row["training"], row["samples"], row["recognition"]
    text = (
        f"{row['recipe']:<{width}} {training['images']:>11,} {training['seconds']:>8.0f} "
        f"{training['images_per_second']:>9,.0f}   "
    )
    if samples is None:
        return f"{text}-"
    ratio = "-" if samples["ratio"] is None else _both(samples["ratio"], samples["ratio_error"], 2)
    text += f"{samples['sampler']:<12} {samples['evaluations']:>5} {samples['seconds']:>8.1f}   {ratio:<18}"
    if recognised is not None:
        text += _both(recognised["sample_confidence"], recognised["sample_error"], 3)
    return text


def _about_samples(rows: Sequence[Row], recognised: Sequence[Row]) -> list[str]:
    """An explanation of the columns about samples, with the same numbers for real data."""
    samples = next((row["samples"] for row in rows if row["samples"] is not None), None)
    if samples is None:
        return []
    found = [
        f"distance: sliced Wasserstein-2 of {samples['count']:,} samples to held-out data; floor: for as many "
        f"real samples, {_both(samples['floor'], samples['floor_error'])}"
    ]
    if recognised:
        true = recognised[0]["recognition"]
        fractions = ", ".join(f"{row['recipe']} {row['recognition']['share_distance']:.2f}" for row in recognised)
        found += [
            "recognised: a classifier's mean top probability; for held-out data "
            f"{_both(true['held_out_confidence'], true['held_out_error'], 3)}",
            f"class fractions, total variation distance ({true['share_floor']:.2f} by chance): {fractions}",
        ]
    return found


def _scored(row: Row, standings: Mapping[str, Any], width: int) -> str:
    text = f"{row['recipe']:<{width}}  "
    for part in ("bound", "flow"):
        cell = row[part]
        if cell is None:
            text += f"{'-':<48}"
            continue
        value = _both(cell["bits_per_dim"], cell["standard_error"])
        method = "" if cell["method_error"] is None else f" ({_number(cell['method_error'])})"
        standing = standings[part]
        best = standing["best"] == row["recipe"]
        text += f"{value + method:<26}{'best' if best else '+' + _both(**standing['over'][row['recipe']]):<22}"
    return text


def _both(mean: int | float, error: int | float | None, places: int = 4) -> str:
    """A number and its error, with this many decimals; with fewer for large numbers."""
    if abs(mean) >= 100:
        places = min(places, 1)
    return _number(mean, places) + ("" if error is None else f" ± {_number(error, places)}")


def _number(value: int | float, places: int = 4) -> str:
    return f"{value:.{places}f}" if abs(value) < 1e6 else f"{value:.2e}"
