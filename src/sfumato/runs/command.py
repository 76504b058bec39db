"""Settings as values that know their own command line."""

import shlex
import shutil
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, get_type_hints

from sfumato.files import expanded


def in_seconds(value: float) -> str:
    """A duration as the command line takes it."""
    return f"{value:g}s"


def comma_separated(values: tuple[object, ...]) -> str:
    """Several values as one word."""
    return ",".join(map(str, values))


def number_or_all(value: int | None) -> str:
    """A number, or "all" for None."""
    return "all" if value is None else str(value)


def program() -> str:
    """How to call the sfumato that is running, quoted for a shell: its name if the shell finds it, else its path."""
    scripts = Path(sys.executable).parent  # not resolved: that of an environment is a link to the python it is made of
    found = shutil.which("sfumato")
    if found is not None and Path(found).parent.resolve() == scripts.resolve():
        return "sfumato"
    script = shutil.which("sfumato", path=str(scripts))
    words = [_shortest(Path(script))] if script else [_shortest(Path(sys.executable)), "-m", "sfumato"]
    return shlex.join(words)


def _shortest(path: Path) -> str:
    """The path from the current folder, if it is inside that."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@dataclass(frozen=True)
class Settings:
    """The settings of one verb.

    A field annotated with a flag, and possibly a function that writes its value, is a flag of the command line; the
    others are positional arguments, tuples at the end. A tuple behind a flag is several words, unless a function writes
    it as one. ~ is expanded in paths.
    """

    verb: ClassVar[str]

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Path):
                object.__setattr__(self, each.name, expanded(value))
            elif isinstance(value, tuple) and any(isinstance(part, Path) for part in value):
                object.__setattr__(self, each.name, tuple(expanded(part) for part in value))

    def command(self) -> str:
        """The command line that would do the same, quoted for a shell."""
        first: list[str] = []
        flags: list[str] = []
        last: list[str] = []
        hints = get_type_hints(type(self), include_extras=True)
        for each in fields(self):
            value = getattr(self, each.name)
            flag, text = (*getattr(hints[each.name], "__metadata__", (None,)), str)[:2]
            if isinstance(value, tuple) and flag is None:
                last += map(str, value)
            elif flag is None:
                first += [] if value is None else [str(value)]
            elif isinstance(value, tuple) and text is str:
                flags += [flag, *map(str, value)] if value else []
            elif value != each.default:
                flags += [flag] if value is True else [f"--no-{flag[2:]}"] if value is False else [flag, text(value)]
        return shlex.join(["sfumato", self.verb, *first, *flags, *last])

    def typed(self) -> str:
        """``command`` as it can be typed here: with the path of sfumato where the shell would not find this one."""
        return f"{program()} {self.command().removeprefix('sfumato ')}"
