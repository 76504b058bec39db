"""Settings of a run that are not part of its recipe."""

from dataclasses import dataclass, field
from typing import Literal

from .execution import Compute
from .keep import NEWEST, USUAL, Keep


@dataclass(frozen=True)
class Options:
    """How to carry out a run. Only a rewind and rounding can change the result.

    Arguments:
        checkpoint_every: seconds between checkpoints, stretched so that saving takes a hundredth of the time at most.
        keep: which checkpoints to keep while training.
        keep_finished: which checkpoints to keep of a run that has reached its goal.
        compute: what is required of the computation of steps.
        on_nonfinite: after a loss or a gradient that is not finite, "stop", or "rewind" to the last checkpoint and
            continue with half the learning rate.
    """

    checkpoint_every: float = 60.0
    keep: Keep = USUAL
    keep_finished: Keep = NEWEST
    compute: Compute = field(default_factory=Compute)
    on_nonfinite: Literal["stop", "rewind"] = "stop"


DEFAULTS = Options()
