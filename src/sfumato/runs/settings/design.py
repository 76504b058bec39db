"""The settings of ``design``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from sfumato.errors import InputError

from ..command import Settings
from .checks import require_ending


@dataclass(frozen=True)
class DesignSettings(Settings):
    """The settings of ``design``.

    Arguments:
        run: a run or model folder.
        filters: a table with positions in the first column and the response of a filter in each other one.
        count: how many filters to choose.
        noise: the standard deviation of a reading, in its units.
        check: reconstructions of simulated readings that predict error and band; 0 for none.
        seed: the random seed.
        out: the table of the chosen filters to write, a .csv file; by default design.csv in the run folder.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.

    Raises:
        InputError: noise that is not above 0, a file of another kind.
    """

    verb: ClassVar[str] = "design"
    run: Path
    filters: Annotated[Path, "--filters"]
    count: Annotated[int, "--count"]
    noise: Annotated[float, "--noise"]
    check: Annotated[int, "--check"] = 8
    seed: Annotated[int, "--seed"] = 0
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.noise < float("inf"):
            raise InputError(f"--noise {self.noise:g}: is no standard deviation; give more than 0, in their units")
        if self.out is not None:
            require_ending("--out", self.out, (".csv",))
