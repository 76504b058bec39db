"""The settings of ``report``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from ..command import Settings


@dataclass(frozen=True)
class ReportSettings(Settings):
    """The settings of ``report``.

    Arguments:
        run: a run folder.
        source: where the run's data is now, if it has moved; used, as the device is, only where samples must be drawn.
        device: "auto", "cpu" or "cuda".
        compare: other runs to put beside it.
        threads: CPU threads; by default as many as training found to be fastest.
    """

    verb: ClassVar[str] = "report"
    run: Path
    source: str | None = None
    device: Annotated[str, "--device"] = "auto"
    compare: Annotated[tuple[Path, ...], "--compare"] = ()
    threads: Annotated[int | None, "--threads"] = None
