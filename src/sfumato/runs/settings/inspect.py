"""The settings of ``inspect``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from ..command import Settings
from .checks import require_ending, require_source


@dataclass(frozen=True)
class InspectSettings(Settings):
    """The settings of ``inspect``.

    Arguments:
        source: the data.
        overrides: recipe settings, each "key=value".
        recipe: a preset or the path of a YAML file; "flow" by default.
        out: a picture of samples, .png; none by default.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: an ``out`` of another kind of file, or no source.
    """

    verb: ClassVar[str] = "inspect"
    source: str
    overrides: tuple[str, ...] = ()
    recipe: Annotated[str | None, "--recipe"] = None
    out: Annotated[Path | None, "--out"] = None
    device: Annotated[str, "--device"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_source(self.source, self.verb)
        if self.out is not None:
            require_ending("--out", self.out, (".png",))
