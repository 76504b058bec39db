"""The settings of ``balance``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from sfumato.errors import InputError

from ..command import Settings, comma_separated, in_seconds
from .checks import require_source


@dataclass(frozen=True)
class BalanceSettings(Settings):
    """The settings of ``balance``.

    Arguments:
        source: samples with classes: a table, images or signals.
        overrides: settings of the recipe, each "key=value": "trees" for vectors, "flow" for signals and images.
        target: rows of each class: "equal", "N" or "class=N,class=N".
        run: a run on data with the same classes, whose model makes the samples; None to train one.
        budget: seconds to train a network, 10 minutes by default; trees take none.
        overlap: whether samples of other classes that look like the smallest one get labels of their own before
            training.
        keep_copies: keep rows that are nearly copies of real ones.
        keep_implausible: keep rows that a classifier finds implausible.
        evaluate: measure first whether synthetic rows of the smallest class help learners.
        splits: tests for that, a multiple of 5.
        learners: those that are trained for it; None for the usual ones.
        rows: what these are trained on, besides real and synthetic rows; None for the usual ones.
        seed: the random seed.
        out: the folder to write; SOURCE-balanced by default.

    Raises:
        InputError: a run together with what needs others.
    """

    verb: ClassVar[str] = "balance"
    source: str
    overrides: tuple[str, ...] = ()
    target: Annotated[str, "--target"] = "equal"
    run: Annotated[Path | None, "--run"] = None
    budget: Annotated[float | None, "--budget", in_seconds] = None
    overlap: Annotated[bool, "--overlap"] = False
    keep_copies: Annotated[bool, "--keep-copies"] = False
    keep_implausible: Annotated[bool, "--keep-implausible"] = False
    evaluate: Annotated[bool, "--evaluate"] = False
    splits: Annotated[int, "--splits"] = 10
    learners: Annotated[tuple[str, ...] | None, "--learners", comma_separated] = None
    rows: Annotated[tuple[str, ...] | None, "--rows", comma_separated] = None
    seed: Annotated[int, "--seed"] = 0
    out: Annotated[Path | None, "--out"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_source(self.source, self.verb)
        if self.run is not None and (self.overlap or self.evaluate or self.budget is not None):
            flag = "--overlap" if self.overlap else "--evaluate" if self.evaluate else "--budget"
            raise InputError(f"{flag}: models are trained for it, and --run gives one that is; leave out one of them")
