"""Which checkpoints to keep."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sfumato.numerics.integers import optional, whole


@dataclass(frozen=True)
class Keep:
    """Which checkpoints to keep.

    Arguments:
        last: this many of the newest.
        every: also the first one at or after each multiple of this many images, forever.
        best: also the one with the lowest finite ``state["score"]``, the first of equals.

    Raises:
        InputError: a number that is no integer, or below 1.
    """

    last: int = 2
    every: int | None = None
    best: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "last", whole("last", self.last, 1))
        object.__setattr__(self, "every", optional("every", self.every, 1))

    def kept(self, scores: Mapping[int, float | None]) -> set[int]:
        """Those to keep of the checkpoints at these images, each with its score."""
        order = sorted(scores)
        kept = set(order[-self.last :])
        if self.every is not None:
            first = {images // self.every: images for images in reversed(order)}
            kept |= {images for multiple, images in first.items() if multiple > 0}
        finite = {images: score for images in order if (score := scores[images]) is not None and math.isfinite(score)}
        if self.best and finite:
            kept.add(min(finite, key=finite.__getitem__))
        return kept


USUAL = Keep()
NEWEST = Keep(last=1, best=False)
"""All that a finished run needs to go on exactly."""
