"""Types of arguments for argparse, arguments that several verbs have, parsing, and settings made from arguments."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from sfumato.runs.command import Settings

# How the keys begin that a verb takes as key=value.
_SETTINGS = {"train": "", "compare": "", "inspect": "", "likelihood": "data.", "evaluate": "data."}

AnySettings = TypeVar("AnySettings", bound=Settings)


def settings_of(kind: type[AnySettings], args: argparse.Namespace) -> AnySettings:
    """The settings that the arguments of a verb mean; lists become tuples."""
    values = {each.name: getattr(args, each.name) for each in fields(kind)}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def seconds(text: str) -> float:
    """A duration such as 90s, 10m, 1h30m, or plain seconds."""
    units = {"h": 3600, "m": 60, "s": 1}
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not match or not text.strip() or (re.search("[hm]", text) and text.strip()[-1].isdigit()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration; write 90s, 10m or 1h30m")
    total = sum(float(part) * unit for part, unit in zip(match.groups(), units.values(), strict=True) if part)
    if total <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not more than zero; give more than 0s")
    return total


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        value = int(text)
        if value > 2**53:
            raise argparse.ArgumentTypeError(f"{text} is too large")
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small; give at least 1")
    return value


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1, separated by commas; sorted, each once."""
    return tuple(sorted({positive(part.strip()) for part in text.split(",")}))


def words(what: str, example: str) -> Callable[[str], tuple[str, ...]]:
    """Names separated by commas; ``what`` and ``example`` are for the message that refuses none."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(part.strip() for part in text.split(",") if part.strip())
        if not found:
            raise argparse.ArgumentTypeError(f"'{text}' names no {what}; write {example}")
        return found

    return parse


def add_run(parser: argparse.ArgumentParser, what: str = "a run or model folder") -> None:
    """The RUN argument."""
    parser.add_argument("run", type=Path, metavar="RUN", help=what)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """The --threads flag of the verbs that do not train."""
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads (default: as many as training found to be fastest)"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """The --device flag."""
    parser.add_argument("--device", default="auto", help="cpu or cuda (default: a GPU if there is one)")


def parse(top: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments. DATA and key=value may stand anywhere; argparse itself takes positionals in one place."""
    args, extra = top.parse_known_args(argv)
    bare = [word for word in extra if "=" not in word and not word.startswith("-")]
    for name in ("data", "source"):  # these may be left out, so argparse does so where a flag follows RUN
        if bare and getattr(args, name, "") is None:
            setattr(args, name, bare[0])
            extra.remove(bare.pop(0))
    settings = [word for word in extra if "=" in word and not word.startswith("-")]
    unknown = [word for word in extra if word not in settings or "overrides" not in args]
    if unknown:
        hint = ""
        if unknown[0].startswith("-"):
            from sfumato.recipes.synonyms import flag_meant

            hint = flag_meant(unknown[0], args.flags, _SETTINGS.get(args.verb))
        hint = hint or f"see 'sfumato {args.verb} --help'"
        top.exit(2, f"sfumato {args.verb}: error: unknown argument '{unknown[0]}'; {hint}\n")
    if settings:
        args.overrides += settings
    return args
