"""What an evaluation says of the samples in one sentence."""

from collections.abc import Sequence

from .memorisation import Copying, unfit
from .rows import Row

NEAR, FAR = 0.8, 0.1  # shares of good samples, of which real data has 1, at which the words change
_DENSITY, _COVERAGE = "clipped_density", "clipped_coverage"


def judgement(rows: Sequence[Row], copies: Sequence[Copying]) -> str:
    """How good the samples are.

    The words follow the lower of Clipped Density and Clipped Coverage, over what real data gets in the place of the
    samples, in the space where that is lowest: both fall in proportion to the share of bad samples. A measure counts as
    worse if its whole interval is worse than that of real data.

    Arguments:
        rows: every measure in every space.
        copies: how near the samples are to training data; empty where that is not known.
    """
    worse = sum(_worse(row) for row in rows)
    counted = f"{worse} of {len(rows)} measures are worse than those of real data, by more than their intervals"
    why = unfit(copies) if copies else None
    if why is not None:
        return f"These are not yet samples: {why}; {counted}."
    if worse == 0:
        return f"The samples cannot be told from as much real data by any of {len(rows)} measures."
    space, share = min(_shares(rows).items(), key=lambda item: item[1], default=("", 1.0))
    words = "near the data" if share >= NEAR else "rough" if share >= FAR else "far from the data"
    found = {row.name: row for row in rows if row.space == space}
    of = ", ".join(
        f"{found[name].title} {found[name].samples.value:.2f} (real data {found[name].real.value:.2f})"
        for name in (_DENSITY, _COVERAGE)
        if name in found
    )
    return f"The samples are {words}: {of} in {space}; {counted}."


def _worse(row: Row) -> bool:
    ours, theirs = row.samples, row.real
    return ours.low > theirs.high if row.better == "lower" else ours.high < theirs.low


def _shares(rows: Sequence[Row]) -> dict[str, float]:
    """By space, the lower of Clipped Density and Clipped Coverage, over that of real data."""
    found: dict[str, float] = {}
    for row in rows:
        if row.name in (_DENSITY, _COVERAGE) and row.real.value > 0:
            found[row.space] = min(found.get(row.space, 1.0), row.samples.value / row.real.value)
    return found
