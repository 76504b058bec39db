"""The settings of ``interpolate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from ..command import Settings


@dataclass(frozen=True)
class InterpolateSettings(Settings):
    """The settings of ``interpolate``.

    Arguments:
        run: a run or model folder.
        a: the file with the first sample.
        b: the file with the last.
        at: the time of the mixture, in (0, 1].
        frames: number of frames with both ends.
        mode: "latent", "spherical" or "shared".
        steps: evaluations of the network per frame.
        seed: the random seed.
        out: the folder to write; by default in the run folder, named by both files.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.
    """

    verb: ClassVar[str] = "interpolate"
    run: Path
    a: Path
    b: Path
    at: Annotated[float, "--at"] = 0.5
    frames: Annotated[int, "--frames"] = 9
    mode: Annotated[str, "--mode"] = "latent"
    steps: Annotated[int, "--steps"] = 50
    seed: Annotated[int, "--seed"] = 0
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None
