"""The settings of ``sample``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from sfumato.errors import InputError

from ..command import Settings
from .checks import require_ending

_MOVIES = (".gif", ".webp")
_TABLES = (".csv", ".tsv", ".parquet")  # as data.TABLES, which takes long to import


@dataclass(frozen=True)
class SampleSettings(Settings):
    """The settings of ``sample``.

    Arguments:
        run: a run or model folder.
        count: number of samples.
        sampler: the name of a sampler; the recipe's by default.
        steps: network evaluations per sample; the recipe's by default.
        tolerance: error per step of the adaptive sampler.
        eta: the fraction of noise that the ddim sampler adds: 0 none, 1 ancestral.
        under: a preset or YAML file whose process replaces the model's own.
        classes: names of the classes to draw; by default all, in their shares.
        conditions: numbers that samples are given with, as "a=1.5,b=2"; several are drawn one after another.
        seen: the file of what is known of the samples.
        mask: the file that says, white or not 0, where ``seen`` is to be filled in.
        per_class: number of samples of each class.
        guidance: the weight of guidance; 1 is none.
        guide_from: the lowest log-SNR that guidance acts at.
        guide_until: the highest one.
        guide_with: a run of a worse model that guidance leads away from, or "early" for the early weights of the run
            itself; by default the model without the class.
        pairs: also write the noise that each sample started from.
        seed: the random seed.
        batch: samples drawn at once by each process.
        out: the file to write, or, without an ending, a new folder of images; by default a .png and an .npz in the run
            folder.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; by default as many as training found to be fastest.

    Raises:
        InputError: an ``out`` of another kind of file, ``pairs`` without an .npz file, or settings of guidance without
            its weight.
    """

    verb: ClassVar[str] = "sample"
    run: Path
    count: Annotated[int, "--count"] = 64
    sampler: Annotated[str | None, "--sampler"] = None
    steps: Annotated[int | None, "--steps"] = None
    tolerance: Annotated[float | None, "--tolerance"] = None
    eta: Annotated[float | None, "--eta"] = None
    under: Annotated[str | None, "--under"] = None
    classes: Annotated[tuple[str, ...], "--class"] = ()
    conditions: Annotated[tuple[str, ...], "--condition"] = ()
    seen: Annotated[Path | None, "--seen"] = None
    mask: Annotated[Path | None, "--mask"] = None
    per_class: Annotated[int | None, "--per-class"] = None
    guidance: Annotated[float | None, "--guidance"] = None
    guide_from: Annotated[float | None, "--guide-from"] = None
    guide_until: Annotated[float | None, "--guide-until"] = None
    guide_with: Annotated[Path | None, "--guide-with"] = None
    pairs: Annotated[bool, "--pairs"] = False
    seed: Annotated[int, "--seed"] = 0
    batch: Annotated[int, "--batch"] = 256
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"
    threads: Annotated[int | None, "--threads"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out is not None and not self.is_folder:
            require_ending("--out", self.out, (".png", ".npz", *_TABLES, *_MOVIES))
        if self.pairs and (self.out is None or self.out.suffix.lower() != ".npz"):
            raise InputError("--pairs: the noise is written into an .npz file; add --out FILE.npz")
        if self.mask is not None and self.seen is None:
            raise InputError("--mask: says where an image is to be filled in; add it as --seen FILE")
        given = {"from": self.guide_from, "until": self.guide_until, "with": self.guide_with}
        if self.guidance is None and (names := [f"--guide-{name}" for name, x in given.items() if x is not None]):
            raise InputError(f"{names[0]}: without a weight there is no guidance; add --guidance 1.5")

    @property
    def is_folder(self) -> bool:
        """Whether the output is a folder of images: a name without an ending."""
        return self.out is not None and not self.out.suffix

    @property
    def is_movie(self) -> bool:
        """Whether the output is a movie of how the samples form."""
        return self.out is not None and self.out.suffix.lower() in _MOVIES
