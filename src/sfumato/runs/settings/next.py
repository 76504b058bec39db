"""The settings of ``next``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from sfumato.errors import InputError

from ..command import Settings


@dataclass(frozen=True)
class NextSettings(Settings):
    """The settings of ``next``.

    Arguments:
        run: a run or model folder.
        measured: a file with a number for each candidate reading, nan where there is none yet.
        noise: the standard deviation of a reading, in its units.
        operator: what the candidates are, as for ``reconstruct``; None for the values of a sample themselves.
        count: how many of the most useful readings to name.
        draws: samples of the posterior.
        steps: evaluations of the network per move.
        particles: of the annealed method.
        seed: the random seed.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.

    Raises:
        InputError: noise that is not above 0.
    """

    verb: ClassVar[str] = "next"
    run: Path
    measured: Annotated[Path, "--measured"]
    noise: Annotated[float, "--noise"]
    operator: Annotated[str | None, "--operator"] = None
    count: Annotated[int, "--count"] = 3
    draws: Annotated[int, "--draws"] = 64
    steps: Annotated[int | None, "--steps"] = None
    particles: Annotated[int | None, "--particles"] = None
    seed: Annotated[int, "--seed"] = 0
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.noise < float("inf"):
            raise InputError(f"--noise {self.noise:g}: is no standard deviation; give more than 0, in their units")
