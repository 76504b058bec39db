"""Settings of a run that are not part of its recipe."""

from dataclasses import dataclass, field
from typing import Literal

from .execution import Compute
from .keep import Keep


@dataclass(frozen=True)
class Options:
    """How to carry out a run. Only a rewind and rounding can change the result.

    Arguments:
        checkpoint_every: seconds between checkpoints, stretched so that saving takes a hundredth of the time at most.
        keep: which checkpoints to keep.
        compute: what is required of the computation of steps.
        on_nonfinite: after a loss or a gradient that is not finite, "stop", or "rewind" to the last checkpoint and
            continue with half the learning rate.
    """

    checkpoint_every: float = 60.0
    keep: Keep = field(default_factory=Keep)
    compute: Compute = field(default_factory=Compute)
    on_nonfinite: Literal["stop", "rewind"] = "stop"


DEFAULTS = Options()
