"""The settings of ``inpaint``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from sfumato.errors import InputError

from ..command import Settings
from .checks import check_draws


@dataclass(frozen=True)
class InpaintSettings(Settings):
    """The settings of ``inpaint``.

    Arguments:
        run: a run or model folder.
        image: the file with the sample.
        mask: the file with the mask: white, or not 0, where the sample is to be filled in.
        noise: the standard deviation of the noise in the known values, in the data's units; by default 2.5 % of two
            model units, which are the range of bounded data.
        draws: samples.
        method: "auto", "exact", "annealed", "mmps", "pigdm" or "dps".
        steps: evaluations of the network per move, or per draw.
        particles: of the annealed method.
        seed: the random seed.
        batch: samples evaluated at once.
        out: the folder to write; by default in the run folder, named by the image.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.

    Raises:
        InputError: noise that is not above 0, less than 2 draws.
    """

    verb: ClassVar[str] = "inpaint"
    run: Path
    image: Path
    mask: Annotated[Path, "--mask"]
    noise: Annotated[float | None, "--noise"] = None
    draws: Annotated[int, "--draws"] = 8
    method: Annotated[str, "--method"] = "auto"
    steps: Annotated[int | None, "--steps"] = None
    particles: Annotated[int | None, "--particles"] = None
    seed: Annotated[int, "--seed"] = 0
    batch: Annotated[int, "--batch"] = 256
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise is not None and not 0 < self.noise < float("inf"):
            raise InputError(f"--noise {self.noise:g}: is no standard deviation; give more than 0, in data units")
        check_draws(self.draws)
