"""What to measure next: from files to a ranking."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sfumato.data import DataSpec
from sfumato.next_reading import next_reading

from .device import pick_device
from .loading import load_with_samplers
from .measurement_files import read_numbers, read_operator
from .result_folder import stated
from .settings import NextSettings
from .threads import threads


def run_next(settings: NextSettings) -> dict[str, Any]:
    """Rank the readings that are left, as ``settings`` say.

    Raises InputError for readings or an operator that do not fit the model.
    """
    with threads(settings.threads, settings.run):
        model = load_with_samplers(settings.run, pick_device(settings.device))
        operator = None if settings.operator is None else read_operator(settings.operator, model.spec)
        found = next_reading(
            model, read_numbers("--measured", settings.measured).flatten(), settings.noise, operator,
            draws=settings.draws, steps=settings.steps, particles=settings.particles, seed=settings.seed,
        )  # fmt: skip
    ranked = [
        {"reading": i + 1, **({} if operator is not None else _place(i, model.spec)), "error": float(found.errors[i])}
        for i in found.order[: settings.count]
    ]
    return {**stated(settings), "error": found.error, "next": ranked}


def next_lines(record: Mapping[str, Any]) -> list[str]:
    """The ranking in words."""
    lines = [f"expected error now: {record['error']:.4g}; after one more reading:"]
    for row in record["next"]:
        place = f" ({row['place']})" if "place" in row else ""
        lines.append(f"  reading {row['reading']}{place}: {row['error']:.4g}")
    return lines


def _place(i: int, spec: DataSpec) -> dict[str, Any]:
    """Where value i of a sample lies."""
    at = [int(k) for k in np.unravel_index(i, spec.shape)]
    if spec.axis is not None:
        return {"place": f"{spec.axis.name or 'position'} {spec.axis.values[at[-1]]:g} {spec.axis.unit}".strip()}
    if len(at) == 3:
        return {
            "place": f"row {at[1] + 1}, column {at[2] + 1}" + (f", channel {at[0] + 1}" if spec.shape[0] > 1 else "")
        }
    return {}
