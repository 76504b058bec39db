"""Samples that are there more than once."""

import numpy as np

from .chunks import chunks


def copies(values: np.ndarray) -> int:
    """The number of samples (rows of ``values``) that are the same, byte for byte, as one before them.

    Rows are compared by a 64-bit hash: the sum of their words, each times a random odd number. Among a million
    different rows, one pair is taken for the same with a chance of about 10^-7.
    """
    hashes, multipliers = [], None
    for chunk in chunks(values):
        rows = np.ascontiguousarray(chunk).reshape(len(chunk), -1).view(np.uint8)
        words = np.zeros((len(rows), -(-rows.shape[1] // 8) * 8), np.uint8)
        words[:, : rows.shape[1]] = rows
        numbers = words.view("<u8")
        if multipliers is None:
            multipliers = np.random.default_rng(0).integers(0, 2**63, numbers.shape[1], np.uint64) * np.uint64(2) + 1
        hashes.append(_mixed(numbers) @ multipliers)
    return len(values) - len(np.unique(np.concatenate(hashes)))


def _mixed(words: np.ndarray) -> np.ndarray:
    """Words whose high bits depend on their low ones and the reverse: floats end in zeros, which products keep."""
    mixed: np.ndarray = (words ^ (words >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    return mixed
