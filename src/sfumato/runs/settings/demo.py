"""The settings of ``demo``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from ..command import Settings, in_seconds


@dataclass(frozen=True)
class DemoSettings(Settings):
    """The settings of ``demo``.

    Arguments:
        budget: seconds to train.
        out: the run folder; runs/demo by default.
        device: "auto", "cpu" or "cuda".
    """

    verb: ClassVar[str] = "demo"
    budget: Annotated[float, "--budget", in_seconds] = 80.0
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
