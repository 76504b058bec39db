"""The features of many points in a space, with a forecast and progress, and kept for the next time where possible."""

import time

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sfumato.reporting import SILENT, Reporter, duration

from .cache import kept
from .spaces import Space

_FIRST, _CHUNK = 64, 512  # points whose time is a forecast for the others, and points between two reports
_LONG = 3.0  # seconds that are worth a line


def features_of(
    space: Space, points: Shaped[Tensor, "n *s"], reporter: Reporter = SILENT, keep: bool = True
) -> Float[Tensor, "n d"]:
    """The features of points in data units.

    Arguments:
        space: the space.
        points: the points.
        reporter: receives a forecast of the time if it is long, and progress.
        keep: whether features of this space may be kept between evaluations, as those of real data are.
    """
    if not keep or space.identity is None:
        return _computed(space, points, reporter)
    found, _ = kept(f"features, {space.identity}", points, lambda: {"features": _computed(space, points, reporter)})
    return found["features"]


def _computed(space: Space, points: Tensor, reporter: Reporter) -> Tensor:
    started = time.monotonic()
    parts = [space.features(points[:_FIRST])]
    left = len(points) - _FIRST
    if left <= 0:
        return parts[0]
    seconds = (time.monotonic() - started) * left / _FIRST
    if seconds > _LONG:
        again = "" if space.identity is None else "; those of real data are kept for the next time"
        reporter.info(f"features of {len(points):,} points in {space.name}: about {duration(seconds)}{again}")
    with reporter.task(f"features in {space.name}") as task:
        for start in range(_FIRST, len(points), _CHUNK):
            parts.append(space.features(points[start : start + _CHUNK]))
            task.count(min(start + _CHUNK, len(points)) - _FIRST, left)
    return torch.cat(parts)
