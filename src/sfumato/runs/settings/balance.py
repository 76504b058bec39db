"""The settings of ``balance``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from ..command import Settings, comma_separated
from .checks import require_source


@dataclass(frozen=True)
class BalanceSettings(Settings):
    """The settings of ``balance``.

    Arguments:
        source: a table with classes.
        overrides: settings of the recipe "trees", each "key=value".
        target: rows of each class: "equal", "N" or "class=N,class=N".
        keep_copies: keep rows that are nearly copies of real ones.
        keep_implausible: keep rows that a classifier finds implausible.
        evaluate: measure first whether synthetic rows of the smallest class help learners.
        splits: tests for that, a multiple of 5.
        learners: those that are trained for it; None for the usual ones.
        rows: what these are trained on, besides real and synthetic rows; None for the usual ones.
        seed: the random seed.
        out: the folder to write; SOURCE-balanced by default.
    """

    verb: ClassVar[str] = "balance"
    source: str
    overrides: tuple[str, ...] = ()
    target: Annotated[str, "--target"] = "equal"
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
