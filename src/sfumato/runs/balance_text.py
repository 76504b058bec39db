"""The result of ``sfumato balance`` as lines of text."""

from typing import Any

_SHORT = {"helped": "helped", "none": "no difference", "hurt": "hurt", "unknown": "cannot be told"}


def filled(classes: dict[str, Any]) -> list[str]:
    """What was made and dropped, a line per class."""
    lines = []
    for name, found in classes.items():
        short = f" (wanted {found['wanted']:,})" if found["made"] < found["wanted"] else ""
        dropped = f"; dropped {found['copies']:,} near copies, {found['implausible']:,} implausible"
        if found["noise"]:
            dropped += f"; so few rows were repeated, so noise of {found['noise']:g} of their spread was added"
        tail = f" + {found['made']:,} synthetic{short}{dropped}" if found["wanted"] else ""
        lines.append(f"{name}: {found['real']:,} real{tail}")
    return lines


def evaluated(record: dict[str, Any]) -> list[str]:
    """The measurement: the scores in percent by way and learner, the verdict for each learner, and that for all."""
    scores = record["scores"]
    ways = list(dict.fromkeys(way for each in scores.values() for way in each))
    free = {way.removesuffix(", threshold"): way for way in ways if way != "logit adjustment"}
    title = f"{record['rare']} against the rest, {{}} in %, {record['splits']} splits"
    lines = ["", *_table(title.format("balanced accuracy"), scores, {way: way for way in ways}, "balanced_accuracy")]
    lines += ["", *_table(title.format("average precision"), scores, free, "average_precision"), ""]
    for name, d in record["by_learner"].items():
        between = f"{100 * d['mean']:+.1f} points, {100 * d['low']:+.1f} to {100 * d['high']:+.1f}"
        lines.append(f"{name}: {_SHORT[d['verdict']]} ({between})")
    return [*lines, record["sentence"], ""]


def _table(title: str, scores: dict[str, Any], ways: dict[str, str], key: str) -> list[str]:
    lines = [title, " " * 26 + "".join(f"{name:>18}" for name in scores)]
    for label, way in ways.items():
        cells = (f"{100 * each[way][key]:.1f}" if way in each else "-" for each in scores.values())
        lines.append(f"{label:<26}" + "".join(f"{cell:>18}" for cell in cells))
    return lines
