"""The settings of ``reconstruct``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from sfumato.errors import InputError

from ..command import Settings
from .checks import check_draws


@dataclass(frozen=True)
class ReconstructSettings(Settings):
    """The settings of ``reconstruct``.

    Arguments:
        run: a run or model folder.
        operator: what was measured: a file with a matrix, or "downsample:4", "blur:1.5", "mask:FILE", "response:FILE";
            None with ``calibrate_operator``.
        measurements: a file of readings, one row per measurement.
        noise: the standard deviation of their noise, in their units; "25dB", "photons:GAIN:READ", "auto"; or a file of
            deviations, one per reading, or a row per measurement. None with ``calibrate_operator``.
        calibrate_operator: an .npz file of samples x and their readings y, from which operator and noise are estimated.
        draws: samples per measurement.
        simulations: measurements that are simulated from the model, to tell whether it explains the real ones; 0 for
            none.
        method: "auto", "exact", "annealed", "mmps", "pigdm" or "dps".
        steps: evaluations of the network per move, or per draw.
        particles: of the annealed method.
        seed: the random seed.
        batch: samples evaluated at once.
        out: the folder to write; by default in the run folder, named by the measurements.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.

    Raises:
        InputError: less than 2 draws, or fewer than 0 simulations.
    """

    verb: ClassVar[str] = "reconstruct"
    run: Path
    measurements: Annotated[Path, "--measurements"]
    operator: Annotated[str | None, "--operator"] = None
    noise: Annotated[str | None, "--noise"] = None
    calibrate_operator: Annotated[Path | None, "--calibrate-operator"] = None
    draws: Annotated[int, "--draws"] = 64
    simulations: Annotated[int, "--simulations"] = 0
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
        check_draws(self.draws)
        if self.simulations < 0:
            raise InputError(f"--simulations: {self.simulations} is no number of measurements; give 0 or more, say 99")
        given = [self.operator is not None, self.noise is not None]
        if self.calibrate_operator is None and not all(given):
            raise InputError("--operator, --noise: give both, or estimate both with --calibrate-operator FILE")
        if self.calibrate_operator is not None and any(given):
            raise InputError("--calibrate-operator: estimates operator and noise; leave out --operator and --noise")
