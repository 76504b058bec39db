"""The settings of ``likelihood``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from sfumato.errors import InputError

from ..command import Settings, number_or_all
from .checks import is_there, require_ending


@dataclass(frozen=True)
class LikelihoodSettings(Settings):
    """The settings of ``likelihood``.

    Arguments:
        run: a run or model folder.
        data: the data to score; by default the run's own held-out data. Where that has moved, its new path.
        count: number of samples to score, at most.
        against: a second data set; how well the scores separate it from the first is reported.
        evaluations: approximate network evaluations per sample for the bound; None for every level of a chain.
        steps: number of steps between noise levels, instead of the model's own levels.
        variance: variance of the reverse steps; by default "beta" for densities, "posterior" for data with levels.
        flow: whether to compute the exact likelihood along the flow too.
        tolerance: error per step of the flow's ODE; 1e-4 by default.
        probes: random directions per trace, or "exact"; by default 2, exact for up to 16 dimensions.
        draws: importance-weighted dequantisation samples per data point; 1 by default.
        dequantisation: the distribution that dequantises data with levels; noise by default.
        seed: the random seed.
        batch: samples scored at once.
        per_sample: a .csv file for the numbers of each sample.
        out: the picture to write, a .png file; the numbers go into a .json file beside it.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; by default as many as training found to be fastest.
        overrides: settings of reading ``data`` and ``against``, each "data.key=value".

    Raises:
        InputError: a file of another kind, a tolerance out of range, a setting in place of the data.
    """

    verb: ClassVar[str] = "likelihood"
    run: Path
    data: str | None = None
    count: Annotated[int, "--count"] = 128
    against: Annotated[str | None, "--against"] = None
    evaluations: Annotated[int | None, "--evaluations", number_or_all] = 100
    steps: Annotated[int | None, "--steps"] = None
    variance: Annotated[Literal["posterior", "beta"] | None, "--variance"] = None
    flow: Annotated[bool, "--flow"] = True
    tolerance: Annotated[float | None, "--tolerance"] = None
    probes: Annotated[int | Literal["exact"] | None, "--probes"] = None
    draws: Annotated[int | None, "--draws"] = None
    dequantisation: Annotated[Literal["noise", "uniform"] | None, "--dequantisation"] = None
    seed: Annotated[int, "--seed"] = 0
    batch: Annotated[int, "--batch"] = 256
    per_sample: Annotated[Path | None, "--per-sample"] = None
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is not None and "=" in self.data and not is_there(self.data):  # DATA is left out
            object.__setattr__(self, "overrides", (self.data, *self.overrides))
            object.__setattr__(self, "data", None)
        if self.overrides and self.data is None and self.against is None:
            raise InputError(
                f"'{self.overrides[0]}': the run's own data is read as it was in training; write: sfumato {self.verb} "
                f"{self.run} DATA {self.overrides[0]}, or leave it out"
            )
        if self.per_sample is not None:
            require_ending("--per-sample", self.per_sample, (".csv",))
        if self.out is not None:
            require_ending("--out", self.out, (".png",))
        if self.tolerance is not None and not 1e-12 <= self.tolerance < 1:
            raise InputError(f"--tolerance {self.tolerance}: out of range for an ODE; give at least 1e-12 and below 1")
