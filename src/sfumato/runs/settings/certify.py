"""The settings of ``certify``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from sfumato.errors import InputError
from sfumato.files import expanded

from ..command import Settings, comma_separated, in_seconds
from .checks import require_ending


@dataclass(frozen=True)
class CertifySettings(Settings):
    """The settings of ``certify``.

    Arguments:
        target: a run or model folder, or "oracle".
        oracle: the name of an oracle; "modes" by default.
        nfe: numbers of network evaluations to measure at.
        methods: the samplers to measure; all by default.
        operator: certify reconstructions from readings of this operator instead of samplers.
        noise: the standard deviation of those readings.
        samples: number of starts per method, up to 1024 for an oracle and 256 for a model by default; with an operator,
            the problems per method, up to 20 by default.
        budget: seconds for reconstructions, within which slow methods get fewer problems; 120 by default, or no end
            where samples are given.
        seed: the random seed of the starts.
        out: the picture to write, a .png file; the numbers go into a .json file beside it.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; by default as many as training found to be fastest.

    Raises:
        InputError: a file of another kind, too few samples, an oracle beside a model.
    """

    ORACLE: ClassVar[str] = "oracle"
    verb: ClassVar[str] = "certify"
    target: str = "oracle"
    oracle: Annotated[str | None, "--oracle"] = None
    nfe: Annotated[tuple[int, ...] | None, "--nfe", comma_separated] = None
    methods: Annotated[tuple[str, ...] | None, "--methods", comma_separated] = None
    samples: Annotated[int | None, "--samples"] = None
    budget: Annotated[float | None, "--budget", in_seconds] = None
    seed: Annotated[int, "--seed"] = 0
    operator: Annotated[str | None, "--operator"] = None
    noise: Annotated[float | None, "--noise"] = None
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.is_oracle:
            object.__setattr__(self, "target", str(expanded(self.target)))
        if (self.operator is None) != (self.noise is None):
            raise InputError("--operator, --noise: a reconstruction needs both; give the other too")
        if self.operator is not None and (self.is_oracle or self.oracle or self.nfe):
            raise InputError(f"--operator {self.operator}: is for a RUN, without --oracle and --nfe; give a run folder")
        if self.budget is not None and self.operator is None:
            raise InputError(
                f"--budget {self.budget:g}: is for reconstructions; give --operator and --noise, or leave it out"
            )
        if self.noise is not None and not 0 < self.noise < float("inf"):
            raise InputError(f"--noise {self.noise:g}: is no standard deviation; give more than 0, in their units")
        if self.out is not None:
            require_ending("--out", self.out, (".png",))

    @property
    def is_oracle(self) -> bool:
        """Whether an oracle is measured, and not a model."""
        return self.target == self.ORACLE
