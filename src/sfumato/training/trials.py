"""The choice of an execution by short trials, remembered for the next run on this machine.

No rule knows. bfloat16 takes half the time of float32 where a processor has instructions for it, and many times its
time where it has none; torch's fused attention and the channels-last format gain on GPUs and lose up to an order of
magnitude on CPUs. Threads of a parallel region wait for each other: on two cores, a step of the demo's network took two
threads 0.9 of one thread's time on a quiet machine, and three times as long next to one other busy process. So more
threads than one must gain more (``REQUIRED_GAIN``).
"""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from sfumato.files import write_text

from .execution import Execution

TRIALS = 2  # of each execution, after one that warms up; the fastest counts
MOST_TRIALS = 18  # of a choice among five changes, those for a second look aside
LONG = 1.0  # seconds of a trial, after which one is enough
HOPELESS = 4.0  # times the best time so far: not tried again
REQUIRED_GAIN = {"threads": 1.2, "lean_norms": 0.97}  # speed-up for which these changes are made
GAIN = 1.03  # the same for the others: more than a lucky trial
CLOSE = 0.08  # a speed-up this near to the required one, relative, is measured again by trials in turns
PAIRS = 3  # of those at least, and five times as many of short ones

Change = Mapping[str, Any]
"""Some fields of an Execution, with other values."""

Trial = Callable[[Execution], object]
"""What a step computes, by an execution."""


def choose(
    first: Execution,
    changes: Sequence[Change],
    trial: Trial,
    key: str,
    seconds: float = math.inf,
    reliable: Callable[[], bool] = lambda: True,
) -> Execution:
    """The fastest execution that ``changes`` lead to, tried one after another on the best one so far.

    Arguments:
        first: the execution to begin with.
        changes: what may be changed.
        trial: what is timed.
        key: what the outcome depends on, besides the machine and the choices.
        seconds: after which no further change is tried. A choice that was cut short is not remembered.
        reliable: whether the trials were as long as they should be, so that the choice is remembered.

    Returns:
        The best execution, or the one that is remembered for this machine and ``key``.
    """
    if not changes:
        return first
    offered = json.dumps([asdict(first), *map(dict, changes)])
    key = "/".join([platform.node(), platform.machine(), str(os.cpu_count()), torch.__version__, key, offered])
    if (known := _reachable(first, changes, _remembered().get(key))) is not None:
        return without_failing_compiler(known, trial)
    started = time.perf_counter()
    best, least = first, _time(first, trial)
    for change in changes:
        if time.perf_counter() - started > seconds:
            return best
        candidate = replace(best, **change)
        took = _time(candidate, trial, least)
        required = max(REQUIRED_GAIN.get(name, GAIN) for name in change)
        gain = least / took
        if abs(gain / required - 1) < CLOSE and time.perf_counter() - started < seconds:
            pairs = min(max(PAIRS, int(LONG / took)), 5 * PAIRS)
            gain = statistics.median(_time_once(best, trial) / _time_once(candidate, trial) for _ in range(pairs))
        if gain > required:
            best, least = candidate, took
    if reliable():
        _remember(key, best)
    return best


def without_failing_compiler(execution: Execution, trial: Trial) -> Execution:
    """``execution``, not compiled where that fails: the compiler may be gone."""
    if not execution.compiled:
        return execution
    try:
        trial(execution)
    except Exception:
        return replace(execution, compiled=False)
    return execution


def _reachable(first: Execution, changes: Sequence[Change], known: object) -> Execution | None:
    """What is remembered, if ``changes`` could have led to it."""
    if not isinstance(known, dict):
        return None
    own = asdict(first)
    allowed = {name: [value, *(change[name] for change in changes if name in change)] for name, value in own.items()}
    if known.keys() != own.keys() or any(known[name] not in values for name, values in allowed.items()):
        return None
    return Execution(**known)


def _time(execution: Execution, trial: Trial, least: float = float("inf")) -> float:
    """Seconds of a trial, the least of a few; infinite for one that is hopeless compared with ``least``."""
    best = float("inf")
    try:
        for number in range(1 + TRIALS):
            seconds = _time_once(execution, trial)
            if number == 0 and seconds > HOPELESS * least and not execution.compiled:
                return float("inf")
            best = min(best, seconds)
            if number == 1 and seconds > LONG:
                break
    except Exception:
        if not execution.compiled:  # there may be no compiler, or none that can compile this network
            raise
        return float("inf")
    return best


def _time_once(execution: Execution, trial: Trial) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(execution.threads)
    try:
        started = time.perf_counter()
        trial(execution)
        return time.perf_counter() - started
    finally:
        torch.set_num_threads(before)


def _memory_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sfumato" / "trials.json"


def _remembered() -> dict[str, object]:
    try:
        data = json.loads(_memory_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # RuntimeError: there is no home
        return {}
    return data if isinstance(data, dict) else {}


def _remember(key: str, execution: Execution) -> None:
    with suppress(OSError, RuntimeError):  # what cannot be kept is tried again
        path = _memory_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({**_remembered(), key: asdict(execution)}, indent=1) + "\n")
