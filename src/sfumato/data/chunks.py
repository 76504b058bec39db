"""Large arrays in chunks, so that a check or a sum needs no second copy of the whole array."""

from collections.abc import Callable, Iterator

import numpy as np

from ..errors import InputError
from .mapped import give_back


def chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the array in chunks of whole samples, of about a million values each.

    A chunk of a mapped array must be used before the next one is taken: its memory is then given back.
    """
    rows = max(1, 2**20 * len(values) // max(values.size, 1))
    for start in range(0, len(values), rows):
        yield values[start : start + rows]
        give_back(values)


def refuse(values: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray], what: str, fix: str) -> None:
    """Raise an error if any value is ``wrong``, with the number of such values and samples, and the first of them.

    Arguments:
        values: (N, ...).
        wrong: takes values in float64 and marks the wrong ones.
        what: is wrong with them, as the end of "3 values in 2 of 9 samples ...".
        fix: what to do about it.

    Raises:
        InputError: some values are wrong.
    """
    number, samples, first, start = 0, 0, "", 0
    for chunk in chunks(values):
        found = wrong(chunk.astype(np.float64))
        if found.any():
            where = np.unravel_index(np.argmax(found), found.shape)
            first = first or f"{chunk[where]:g} in sample {start + where[0]}, counted from 0"
            number += np.count_nonzero(found)
            samples += np.count_nonzero(found.reshape(len(found), -1).any(axis=1))
        start += len(chunk)
    if number:
        raise InputError(
            f"data: {number} values in {samples} of {len(values)} samples {what} (the first is {first}); {fix}"
        )
