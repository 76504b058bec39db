"""How steps are computed: on how many threads, in which type; found by a short trial, and kept for the next run.

No rule knows. bfloat16 takes half the time of float32 where a processor has instructions for it, and many times its
time where it has not. Threads of a parallel region wait for each other: on two cores, a step of the demo's network
took two threads 0.9 of one thread's time on a quiet machine, and three times as long beside one other busy process.
So more threads than one have to pay for what they risk (``WORTH``), and are given up where steps become slow.
"""

import ctypes
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from sfumato.files import write_text

Precision = Literal["float32", "bfloat16"]

TRIALS = 2  # of each way, after one that warms up; the fastest counts
WORTH = 1.2  # how many times as fast more threads than one have to be
SUSPICIOUS = 3.0  # times the fastest step: slow
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
PATIENCE = 8  # slow steps in a row until one thread is tried


@dataclass(frozen=True)
class Execution:
    """Steps on ``threads`` threads, with the network's products in ``precision``."""

    threads: int
    precision: Precision

    @property
    def dtype(self) -> torch.dtype:
        """The type of the products."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def __str__(self) -> str:
        return f"{self.threads} thread{'s' if self.threads > 1 else ''}, {self.precision}"


@dataclass(frozen=True)
class Compute:
    """What is asked of the computation of steps.

    ``micro_batch`` is how many samples each process takes at a time, by default as many as memory holds. ``precision``
    and ``threads`` are found by trial unless given. ``gradient_checkpointing`` lets backward compute the blocks of a
    U-Net anew, which takes less memory and a third more time. With ``shard`` each of several processes keeps a part of
    every weight.
    """

    micro_batch: int | None = None
    gradient_checkpointing: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = None
    shard: bool = False


def choose(ways: Sequence[Execution], trial: Callable[[Execution], object], key: str) -> Execution:
    """The fastest of ``ways``, or the one remembered for this machine and ``key``; one way is not tried."""
    if len(ways) == 1:
        return ways[0]
    key = "/".join([platform.node(), platform.machine(), str(os.cpu_count()), torch.__version__, key])
    known = _remembered().get(key)
    for way in ways:
        if known == asdict(way):
            return way
    times = {way: _time(way, trial) for way in ways}
    best = min(ways, key=lambda way: times[way] * (WORTH if way.threads > 1 else 1.0))
    _remember(key, best)
    return best


def _time(way: Execution, trial: Callable[[Execution], object]) -> float:
    former, best = torch.get_num_threads(), float("inf")
    torch.set_num_threads(way.threads)
    try:
        for _ in range(1 + TRIALS):
            started = time.perf_counter()
            trial(way)
            best = min(best, time.perf_counter() - started)
    finally:
        torch.set_num_threads(former)
    return best


def keep_memory() -> None:
    """Let glibc keep what is freed for the next step, where it would give it back and have it zeroed page by page.

    That takes up to a tenth of a step. Other C libraries are left as they are.
    """
    with suppress(OSError, AttributeError, TypeError):  # TypeError: Windows has no library of all that is loaded
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


class Watch:
    """Gives up more threads than one where steps have become slow, as beside another busy process they do."""

    def __init__(self) -> None:
        self._fastest = float("inf")
        self._slow = 0

    def heed(self, seconds: float) -> bool:
        """Of a step. Returns whether to go on with one thread."""
        self._fastest = min(self._fastest, seconds)
        self._slow = self._slow + 1 if seconds > SUSPICIOUS * self._fastest else 0
        return self._slow >= PATIENCE and torch.get_num_threads() > 1


def _place() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sfumato" / "trials.json"


def _remembered() -> dict[str, object]:
    try:
        data = json.loads(_place().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # RuntimeError: there is no home
        return {}
    return data if isinstance(data, dict) else {}


def _remember(key: str, way: Execution) -> None:
    with suppress(OSError, RuntimeError):  # what cannot be kept is tried again
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, json.dumps({**_remembered(), key: asdict(way)}, indent=1) + "\n")
