"""The settings of ``denoise``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from sfumato.errors import InputError

from ..command import Settings


@dataclass(frozen=True)
class DenoiseSettings(Settings):
    """The settings of ``denoise``.

    Arguments:
        run: a run or model folder.
        images: files with noisy samples.
        sigma: the standard deviation of the noise, in the data's units; None to estimate that of each sample.
        draws: samples of the posterior for each noisy one; 0 for the mean alone.
        steps: evaluations of the network per draw.
        seed: the random seed.
        batch: samples evaluated at once.
        out: the folder to write; by default in the run folder, named by the first file.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.

    Raises:
        InputError: a sigma that is not above 0.
    """

    verb: ClassVar[str] = "denoise"
    run: Path
    images: tuple[Path, ...]
    sigma: Annotated[float | None, "--sigma"] = None
    draws: Annotated[int, "--draws"] = 4
    steps: Annotated[int, "--steps"] = 50
    seed: Annotated[int, "--seed"] = 0
    batch: Annotated[int, "--batch"] = 256
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma is not None and not 0 < self.sigma < float("inf"):
            raise InputError(f"--sigma {self.sigma:g}: is no standard deviation; give more than 0, in data units")
