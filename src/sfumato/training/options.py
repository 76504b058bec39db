"""What a run is told beside its recipe."""

from dataclasses import dataclass, field
from typing import Literal

from .checkpoint import Keep
from .execution import Compute


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it is to change what comes out, but for a rewind and the rounding.

    ``checkpoint_every`` is in seconds, and stretched so that checkpoints hold training up for a hundredth of its time
    at most. After a loss or a gradient that is not finite a run stops, or is wound back to its last checkpoint and
    goes on with half the step.
    """

    checkpoint_every: float = 60.0
    keep: Keep = field(default_factory=Keep)
    compute: Compute = field(default_factory=Compute)
    on_nonfinite: Literal["stop", "rewind"] = "stop"


DEFAULTS = Options()
