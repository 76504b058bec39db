"""When a run ends, as its learning rate needs to know it.

With a cooldown c, the rate is multiplied by a factor that falls linearly to 0 over the last fraction c of the run
(Zhai et al. 2022, "Scaling vision transformers"; Hu et al. 2024, "MiniCPM", section 4). The end is a number of images.
It follows from a goal in steps, and is forecast from the pace for a goal in seconds. A forecast may be corrected; the
schedule is part of every checkpoint, so a run that was killed continues with the same rates.

A run that goes on after its goal begins another leg. Its rate rises again, over at most a twentieth of the leg, to a
peak that is lower if the leg is short: by the root of the fraction that the leg is of the whole run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sfumato.recipes.recipe import TrainingSection

LEAST = 0.01  # the factor after the end, where training goes on a little longer than forecast
REWARMING = 0.05  # of a leg


@dataclass(frozen=True)
class Schedule:
    """The legs of a run.

    Arguments:
        legs: pairs (images at the start, images at the end), in order; none for a run without a cooldown.
    """

    legs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, legs: Iterable[Iterable[int]]) -> Schedule:
        """The schedule that ``to_list`` wrote."""
        return cls(tuple((int(first), int(last)) for first, last in legs))

    def to_list(self) -> list[list[int]]:
        """Plain data for a checkpoint."""
        return [list(leg) for leg in self.legs]

    def until(self, end: int, images: int) -> Schedule:
        """The schedule of a run that has seen ``images`` and is to end at ``end``: its last leg, with another end."""
        *before, (first, _) = self.legs or [(0, 0)]
        return Schedule((*before, (first, max(end, images + 1))))

    def ended(self, images: int) -> Schedule:
        """The schedule of a run that has reached its goal at ``images``; the next leg is still empty."""
        if not self.legs or self.legs[-1] == (images, images):
            return self
        *before, (first, _) = self.legs
        return Schedule((*before, (first, images), (images, images)))

    def factor(self, settings: TrainingSection, images: int) -> float:
        """The factor of the learning rate of the step that brings the count to ``images``.

        Arguments:
            settings: the resolved recipe's.
            images: images seen after the step.
        """
        if not self.legs or not settings.cooldown:
            return 1.0
        assert settings.batch is not None
        first, last = next((leg for leg in self.legs if images <= leg[1]), self.legs[-1])
        length = max(last - first, 1)
        # The last step would otherwise have a rate of 0.
        factor = min(1.0, max((last - images + settings.batch) / (settings.cooldown * length), LEAST))
        if first:
            factor *= min(1.0, (images - first) / (REWARMING * length)) * math.sqrt(length / max(last, 1))
        return factor
