"""The settings of ``impute``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from sfumato.errors import InputError

from ..command import Settings
from .checks import require_source


@dataclass(frozen=True)
class ImputeSettings(Settings):
    """The settings of ``impute``.

    Arguments:
        source: a table with gaps.
        overrides: how to read it, each "data.key=value".
        draws: tables that are drawn besides the one with the best guess.
        seed: the random seed.
        out: the folder to write; SOURCE-imputed by default.

    Raises:
        InputError: a negative number of draws.
    """

    verb: ClassVar[str] = "impute"
    source: str
    overrides: tuple[str, ...] = ()
    draws: Annotated[int, "--draws"] = 5
    seed: Annotated[int, "--seed"] = 0
    out: Annotated[Path | None, "--out"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_source(self.source, self.verb)
        if self.draws < 0:
            raise InputError(f"--draws {self.draws}: give 0 or more")
