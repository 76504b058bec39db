"""How steps are computed: threads, types, memory formats, attention; found by a short trial, and kept for the next run.

No rule knows. bfloat16 takes half the time of float32 where a processor has instructions for it, and many times its
time where it has not; torch's fused attention and the channels-last format gain on GPUs and lose up to an order of
magnitude on CPUs. Threads of a parallel region wait for each other: on two cores, a step of the demo's network took two
threads 0.9 of one thread's time on a quiet machine, and three times as long beside one other busy process. So more
threads than one have to pay for what they risk (``WORTH``), and are given up where steps become slow.
"""

import ctypes
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from sfumato.files import write_text

Precision = Literal["float32", "bfloat16"]
Layout = Literal["channels_first", "channels_last"]
Attention = Literal["written", "fused"]

TRIALS = 2  # of each way, after one that warms up; the fastest counts
LONG = 1.0  # seconds of a trial, after which one is enough
HOPELESS = 4.0  # times the best time so far: not tried again
WORTH = {"threads": 1.2, "spares": 0.97}  # how many times as fast these changes have to make a trial
GAIN = 1.03  # the same of the others: more than a lucky trial
CLOSE = 0.08  # a gain so near to what is wanted, relative, is found once more from trials in turns
PAIRS = 3  # of those at least, and five times as many of short ones
COMPILING = 20 * 60.0  # seconds of a run in which a minute or two of compilation are little
SUSPICIOUS = 3.0  # times the fastest step: slow
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
PATIENCE = 8  # slow steps in a row until one thread is tried


@dataclass(frozen=True)
class Execution:
    """Steps on ``threads`` threads, with the network's products in ``precision``.

    ``layout`` is that of images and of convolutions' weights in memory; ``attention`` is written out in products, or
    torch's fused one; ``spares``: norms keep less for backward; ``compiled`` by torch.compile.
    """

    threads: int
    precision: Precision
    layout: Layout = "channels_first"
    attention: Attention = "written"
    spares: bool = False
    compiled: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The type of the products."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def __str__(self) -> str:
        words = [f"{self.threads} thread{'s' if self.threads > 1 else ''}", self.precision]
        words += ["channels last"] if self.layout == "channels_last" else []
        words += ["fused attention"] if self.attention == "fused" else []
        words += ["norms computed anew"] if self.spares else []
        return ", ".join(words + ["compiled"] * self.compiled)


@dataclass(frozen=True)
class Compute:
    """What is asked of the computation of steps.

    ``micro_batch`` is how many samples each process takes at a time, by default as many as memory holds. ``precision``
    and ``threads`` are found by trial unless given. ``gradient_checkpointing`` lets backward compute the blocks of a
    U-Net anew, which takes less memory and a third more time. With ``shard`` each of several processes keeps a part of
    every weight. ``compile`` tries torch.compile, which takes a minute or more; by default for long runs on a GPU.
    """

    micro_batch: int | None = None
    gradient_checkpointing: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = None
    shard: bool = False
    compile: bool | None = None


Change = Mapping[str, Any]
"""Some fields of an Execution, with other values."""


def choose(first: Execution, changes: Sequence[Change], trial: Callable[[Execution], object], key: str) -> Execution:
    """The ``first`` way with those of the ``changes``, tried one after the other, that make ``trial`` faster.

    Or the one that is remembered for this machine and ``key``. A way that cannot be compiled is passed over.
    """
    if not changes:
        return first
    offered = json.dumps([asdict(first), *map(dict, changes)])
    key = "/".join([platform.node(), platform.machine(), str(os.cpu_count()), torch.__version__, key, offered])
    if (known := _reachable(first, changes, _remembered().get(key))) is not None:
        return possible(known, trial)
    best, least = first, _time(first, trial)
    for change in changes:
        way = replace(best, **change)
        seconds = _time(way, trial, least)
        wanted = max(WORTH.get(name, GAIN) for name in change)
        gain = least / seconds
        if abs(gain / wanted - 1) < CLOSE:
            pairs = min(max(PAIRS, int(LONG / seconds)), 5 * PAIRS)
            gain = statistics.median(_once(best, trial) / _once(way, trial) for _ in range(pairs))
        if gain > wanted:
            best, least = way, seconds
    _remember(key, best)
    return best


def possible(way: Execution, trial: Callable[[Execution], object]) -> Execution:
    """``way``, not compiled where that fails: there may be no compiler any more."""
    if not way.compiled:
        return way
    try:
        trial(way)
    except Exception:
        return replace(way, compiled=False)
    return way


def _reachable(first: Execution, changes: Sequence[Change], known: object) -> Execution | None:
    """What is remembered, where ``changes`` could have led to it."""
    if not isinstance(known, dict):
        return None
    own = asdict(first)
    allowed = {name: [value, *(change[name] for change in changes if name in change)] for name, value in own.items()}
    if known.keys() != own.keys() or any(known[name] not in values for name, values in allowed.items()):
        return None
    return Execution(**known)


def _time(way: Execution, trial: Callable[[Execution], object], least: float = float("inf")) -> float:
    """Seconds of a trial, the least of a few; infinite for one that is hopeless beside ``least``."""
    best = float("inf")
    try:
        for number in range(1 + TRIALS):
            seconds = _once(way, trial)
            if number == 0 and seconds > HOPELESS * least and not way.compiled:
                return float("inf")
            best = min(best, seconds)
            if number == 1 and seconds > LONG:
                break
    except Exception:
        if not way.compiled:  # there may be no compiler, or none that can do with this network
            raise
        return float("inf")
    return best


def _once(way: Execution, trial: Callable[[Execution], object]) -> float:
    former = torch.get_num_threads()
    torch.set_num_threads(way.threads)
    try:
        started = time.perf_counter()
        trial(way)
        return time.perf_counter() - started
    finally:
        torch.set_num_threads(former)


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
