"""Large arrays in pieces, so that a check or a sum needs no second copy of all of them."""

from collections.abc import Callable, Iterator

import numpy as np

from ..errors import InputError


def blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """The array in pieces of whole samples, of about a million values."""
    rows = max(1, 2**20 * len(values) // max(values.size, 1))
    return (values[start : start + rows] for start in range(0, len(values), rows))


def refuse(values: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray], what: str, mend: str) -> None:
    """An error that says how many values, in how many samples, are ``wrong``, and which is the first, if any are.

    ``wrong`` takes values in float64 and marks them.

    Raises:
        InputError: some are.
    """
    number, samples, first, start = 0, 0, "", 0
    for block in blocks(values):
        found = wrong(block.astype(np.float64))
        if found.any():
            where = np.unravel_index(np.argmax(found), found.shape)
            first = first or f"{block[where]:g} in sample {start + where[0]}, counted from 0"
            number += np.count_nonzero(found)
            samples += np.count_nonzero(found.reshape(len(found), -1).any(axis=1))
        start += len(block)
    if number:
        raise InputError(
            f"data: {number} values in {samples} of {len(values)} samples {what} (the first is {first}); {mend}"
        )
