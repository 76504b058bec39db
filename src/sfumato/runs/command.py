"""Settings as values that know their own command line."""

import shlex
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
