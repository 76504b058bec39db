"""The settings of ``runs``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from sfumato.errors import InputError

from ..command import Settings

SORTS = ("date", "run", "data", "recipe", "budget", "bound", "quality")


@dataclass(frozen=True)
class RunsSettings(Settings):
    """The settings of ``runs``.

    Arguments:
        folder: where to look for runs, in all folders below too.
        sort: the order of the list: newest, longest and best first, names in order.

    Raises:
        InputError: no such folder, or no such order.
    """

    verb: ClassVar[str] = "runs"
    folder: Path = Path("runs")
    sort: Annotated[str, "--sort"] = "date"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sort not in SORTS:
            raise InputError(f"--sort: '{self.sort}' is unknown; give one of {', '.join(SORTS)}")
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: is no folder; give one with runs in it")
