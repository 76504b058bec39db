"""The threshold of a learner, and its scores."""

from collections.abc import Mapping

import numpy as np

from .rows import Labels, Numbers

FREE = ("average_precision", "log_loss", "brier", "calibration_error")
"""Scores without a threshold; the last three of probabilities at the true share of the rare class."""

TUNED = ("balanced_accuracy", "macro_f1", "mcc", "recall")
"""Scores at a threshold."""

BINS = 10  # of probabilities, with as many rows each
_GRID = 1024
_LEAST = 1e-4  # a probability; trees say 0 and 1


def _log_odds(p: Numbers) -> Numbers:
    inside = np.clip(p, _LEAST, 1 - _LEAST)
    found: Numbers = np.log(inside / (1 - inside))
    return found


def threshold(p: Numbers, rare: Labels) -> float:
    """The probability above which to say "rare", for the highest balanced accuracy of smoothed log-odds.

    The balanced accuracy of few rows jumps at each of them, and where it is highest is mostly chance. So both classes'
    log-odds z get a Gaussian kernel with Silverman's width h = 1.06 s n^(-1/5), and the threshold is where

        mean_rare Phi((z - t) / h) + mean_others Phi((t - z) / h)

    is highest. On simulated tables of six laws the difference between two ways varied a quarter to a half less than
    with the raw maximum for four and as much for two, and balanced accuracies were up to 0.6 points higher.
    """
    from scipy.ndimage import gaussian_filter1d

    z = _log_odds(p)
    low, high = float(z.min()), float(z.max())
    if high - low < 1e-12:
        return float(p[0])
    margin = 0.05 * (high - low)
    edges = np.linspace(low - margin, high + margin, _GRID + 1)
    below = []
    for mine in (z[rare], z[~rare]):
        counts = np.histogram(mine, edges)[0] / len(mine)
        width = 1.06 * mine.std() * len(mine) ** -0.2 / (edges[1] - edges[0])
        below.append(gaussian_filter1d(np.cumsum(counts), max(width, 0.5), mode="nearest"))
    t = float(edges[1:][np.argmax(below[1] - below[0])])
    return float(1 / (1 + np.exp(-t)))


def tuned(p: Numbers, rare: Labels, at: float) -> dict[str, float]:
    """The scores ``TUNED`` at a threshold."""
    said = p > at
    right, missed = float((said & rare).sum()), float((~said & rare).sum())
    false, passed = float((said & ~rare).sum()), float((~said & ~rare).sum())
    recall, specificity = right / (right + missed), passed / (passed + false)
    f1 = [2 * hit / (2 * hit + false + missed) if hit + false + missed else 0.0 for hit in (right, passed)]
    product = (right + false) * (right + missed) * (passed + false) * (passed + missed)
    mcc = (right * passed - false * missed) / product**0.5 if product else 0.0
    return {
        "balanced_accuracy": (recall + specificity) / 2,
        "macro_f1": float(np.mean(f1)),
        "mcc": float(mcc),
        "recall": recall,
    }


def free(p: Numbers, rare: Labels, share: float, seen: float) -> dict[str, float]:
    """The scores ``FREE``, of probabilities moved to the share of the class.

    A learner that saw the share s of rare rows where there are pi has odds that are too high by
    s (1 - pi) / ((1 - s) pi), if it is right otherwise (Saerens, Latinne & Decaestecker 2002).

    Arguments:
        p: probabilities of the rare class.
        rare: the truth.
        share: pi.
        seen: s.
    """
    from sklearn.metrics import average_precision_score

    moved = _log_odds(p) + np.log(share / (1 - share)) - np.log(seen / (1 - seen))
    q = 1 / (1 + np.exp(-moved))
    parts = np.array_split(np.argsort(q, kind="stable"), min(BINS, len(q)))
    gaps = [len(part) / len(q) * abs(float(q[part].mean() - rare[part].mean())) for part in parts]
    return {
        "average_precision": float(average_precision_score(rare, p)),
        "log_loss": float(-np.mean(np.where(rare, np.log(q), np.log1p(-q)))),
        "brier": float(np.mean((q - rare) ** 2)),
        "calibration_error": float(sum(gaps)),
    }


def mean(scores: list[Mapping[str, float]]) -> dict[str, float]:
    """The means by name."""
    return {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}
