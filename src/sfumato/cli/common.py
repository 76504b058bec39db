"""What the verbs share: output, progress, durations, devices."""

import argparse
import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from sfumato.errors import InputError

if TYPE_CHECKING:
    import torch


def leads() -> bool:
    """Whether this process speaks for all that torchrun started: the others are silent, but for what ends them."""
    return os.environ.get("RANK", "0") == "0"


class Output:
    """Results on standard output, everything else on standard error; with --json one object on standard output."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._json: bool = args.json

    def say(self, text: str = "") -> None:
        """A line of the result, for a person."""
        if leads():
            print(text, file=sys.stderr if self._json else sys.stdout, flush=True)

    def warn(self, text: str) -> None:
        """A line of warning."""
        if leads():
            print(f"warning: {text}", file=sys.stderr, flush=True)

    def result(self, data: dict[str, Any]) -> None:
        """The machine-readable result, printed when --json asked for it."""
        if self._json and leads():
            print(json.dumps(data, ensure_ascii=False))


class Bar:
    """A progress bar with an ETA on a terminal, a line every few seconds elsewhere.

    Nothing is drawn in the first two seconds: what is over by then needs none.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._started = self._last = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._drawn = False

    def update(self, fraction: float, text: str = "", left: float | None = None) -> None:
        """Draw ``fraction`` in [0, 1] done, with ``text`` behind it; ``left`` seconds, or what the pace so far says."""
        now = time.monotonic()
        if not leads() or now - self._started < 2 or now - self._last < (0.2 if self._terminal else 5):
            return
        self._last = now
        if left is None:
            left = (now - self._started) * (1 - fraction) / fraction if fraction > 0 else float("inf")
        parts = [f"{100 * fraction:3.0f}%", text, f"{duration(left)} left"]
        line = "  ".join(part for part in parts if part)
        if self._terminal:
            filled = round(24 * fraction)
            print(
                f"\r\x1b[K{self._label} {'━' * filled}{'╌' * (24 - filled)} {line}", end="", file=sys.stderr, flush=True
            )
        else:
            print(f"{self._label} {line}", file=sys.stderr, flush=True)
        self._drawn = True

    def count(self, done: int, total: int) -> None:
        """Draw ``done`` of ``total``."""
        self.update(done / total if total else 1.0, f"{done:,}/{total:,}")

    def close(self) -> None:
        """Wipe the bar; call it before anything else is printed."""
        if self._drawn and self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class Bars:
    """A bar for each part of a measurement, one at a time."""

    def __init__(self) -> None:
        self._part = ""
        self._bar = Bar("")

    def count(self, part: str, done: int, total: int) -> None:
        """Draw ``done`` of ``total``."""
        if part != self._part:
            self.close()
            self._part, self._bar = part, Bar(part)
        self._bar.count(done, total)

    def close(self) -> None:
        """Wipe it."""
        self._bar.close()


def duration(seconds: float) -> str:
    """Seconds as people say them: 8 s, 1 min 30 s, 2 h 5 min."""
    if seconds != seconds or seconds == float("inf"):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def seconds(text: str) -> float:
    """A duration such as 90s, 10m, 1h30m, or plain seconds, for argparse."""
    units = {"h": 3600, "m": 60, "s": 1}
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not match or not text.strip() or (re.search("[hm]", text) and text.strip()[-1].isdigit()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration; write 90s, 10m or 1h30m")
    total = sum(float(part) * unit for part, unit in zip(match.groups(), units.values(), strict=True) if part)
    if total <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no time at all; give more than 0s")
    return total


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    try:
        value = int(text)
        if value > 2**53:
            raise argparse.ArgumentTypeError(f"{text} is too large")
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small; give at least 1")
    return value


def counts(text: str) -> list[int]:
    """Whole numbers of at least 1 with commas between them, in rising order and each once, for argparse."""
    return sorted({positive(part.strip()) for part in text.split(",")})


def add_device(parser: argparse.ArgumentParser) -> None:
    """The --device flag."""
    parser.add_argument("--device", default="auto", help="cpu or cuda; by default a GPU when there is one")


def pick_device(name: str) -> "torch.device":
    """The device of that name, or the best there is for "auto". Raises InputError when it is not to be had."""
    import torch

    # Not mps: float64, in which times and levels are, does not exist there.
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    kind = name.partition(":")[0]
    if not available.get(kind, False):
        usable = ", ".join(k for k, there in available.items() if there)
        raise InputError(f"--device {name}: not available here; this machine has {usable}")
    if kind == "cpu":
        return torch.device(name)
    # Each of a machine's processes has its own; what is not told which one to take takes the current one.
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if name == "cuda" else torch.device(name)
    torch.cuda.set_device(device)
    return device
