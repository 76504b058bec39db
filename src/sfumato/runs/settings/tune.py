"""The settings of ``tune``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from ..command import Settings, comma_separated


@dataclass(frozen=True)
class TuneSettings(Settings):
    """The settings of ``tune``.

    Arguments:
        run: a run or model folder.
        nfe: numbers of network evaluations to fit a sampler for, 2 to 32 each; 8 by default, none with ``guidance``.
        guidance: choose the weight and the interval of guidance, before samplers are fitted.
        count: number of trajectories to fit to; by default chosen by the size of a sample. For guidance the samples of
            each setting, 500 by default.
        iterations: iterations of the fit, at most; 40 by default.
        seed: the random seed of the trajectories, and of the samples.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; by default as many as training found to be fastest.
    """

    verb: ClassVar[str] = "tune"
    run: Path
    nfe: Annotated[tuple[int, ...] | None, "--nfe", comma_separated] = None
    guidance: Annotated[bool, "--guidance"] = False
    count: Annotated[int | None, "--count"] = None
    iterations: Annotated[int | None, "--iterations"] = None
    seed: Annotated[int, "--seed"] = 0
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    @property
    def budgets(self) -> tuple[int, ...]:
        """Numbers of evaluations that samplers are fitted for."""
        return self.nfe or (() if self.guidance else (8,))
