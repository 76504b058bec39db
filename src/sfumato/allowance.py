"""The time that pieces of work share: how much of it is left, and what a piece may take.

Work that cannot finish in its allowance does less: fewer samples, fewer frames. It never measures against a clock of
its own, so tests pass one that they set.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Allowance:
    """The time until ``ends``.

    Arguments:
        ends: when it is over, in seconds of ``clock``; infinite for no limit.
        clock: what the time is.
    """

    ends: float = math.inf
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> "Allowance":
        """``seconds`` from now on."""
        return cls(clock() + seconds, clock)

    @property
    def limited(self) -> bool:
        """Whether there is an end."""
        return math.isfinite(self.ends)

    def left(self) -> float:
        """Seconds left, at least 0."""
        return max(self.ends - self.clock(), 0.0)

    def keeping(self, seconds: float) -> "Allowance":
        """The same without its last ``seconds``, which are kept for what comes after."""
        return replace(self, ends=self.ends - seconds)

    def share(self, fraction: float) -> "Allowance":
        """The first ``fraction`` of what is left."""
        return replace(self, ends=self.clock() + fraction * self.left()) if self.limited else self

    def sooner(self, seconds: float) -> "Allowance":
        """The same, but over after at most ``seconds`` from now on."""
        return replace(self, ends=min(self.ends, self.clock() + seconds))


ENDLESS = Allowance()
"""No limit."""
