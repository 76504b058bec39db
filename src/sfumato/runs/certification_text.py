"""The tables of ``sfumato certify`` as lines of text for a terminal of 100 columns."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def lines(record: Mapping[str, Any]) -> list[str]:
    """The tables of a record of ``run_certification``."""
    fine, samples, budgets = record["fine"], record["samples"], record["budgets"]
    exact = [row for row in record["methods"] if not row["stochastic"]]
    noisy = [row for row in record["methods"] if row["stochastic"]]
    found = [
        f"{record['target']}: {samples:,} samples of {' x '.join(map(str, record['shape']))}, seed {record['seed']}.",
        f"Errors are in the model's units, in which samples have standard deviation {record['deviation']:.2g}.",
        "*: the best of its column. -: cannot run; --json gives the reason.",
    ]
    if exact:
        found += [
            "",
            f"Distance to the fine solution from the same start ({fine['evaluations']:,} evaluations, itself within "
            f"{brief(fine['rms'])}): RMS",
            *_table(exact, budgets, "rms"),
            "",
            f"The same for the median sample (fine solution within {brief(fine['median'])})",
            *_table(exact, budgets, "median"),
            *_names(exact),
        ]
    if noisy:
        floor = next((cell["floor"] for row in noisy for cell in row["entries"] if "floor" in cell), math.nan)
        found += [
            "",
            f"Methods that add noise: distance of {samples // 2:,} samples to {samples // 2:,} exact ones (between two "
            "sets of",
            f"exact samples: {brief(floor)}; a distance close to that is as good)",
            *_table(noisy, budgets, "distance"),
        ]
    return found


def _names(rows: Sequence[Row]) -> list[str]:
    """What "auto" was, by evaluations."""
    found = [f"{cell['budget']:>4} {cell['table']}" for row in rows for cell in row["entries"] if "table" in cell]
    return ["", "auto was, by evaluations:", *found] if found else []


def _table(rows: Sequence[Row], budgets: Sequence[int], key: str) -> list[str]:
    """One line per method; where errors are exact, a star marks the best of each column, and the order is shown."""
    exact = key != "distance"
    width = max(len(row["method"]) for row in rows)
    cells = [[cell.get(key) for cell in row["entries"]] for row in rows]
    best = [min((v for v in column if exact and v is not None), default=None) for column in zip(*cells, strict=True)]
    found = [" " * width + "".join(f"{budget:>9} " for budget in budgets) + (" order" if exact else "")]
    for row, values in zip(rows, cells, strict=True):
        shown = (
            f"{'-' if v is None else brief(v):>9}" + ("*" if v is not None and v == least else " ")
            for v, least in zip(values, best, strict=True)
        )
        order = f"{row['order']:6.2f}" if exact and row["order"] is not None else ""
        found.append(f"{row['method']:<{width}}{''.join(shown)}{order}".rstrip())
    return found


def brief(value: float) -> str:
    """Two digits: 0.058, 0.00055, 1.5e-5; more for large numbers, which then need no exponent."""
    if 100 <= abs(value) < 1e5:
        return f"{value:.0f}"
    mantissa, _, exponent = f"{value:.2g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa
