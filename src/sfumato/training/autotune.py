"""How an engine's steps are best computed, and what they will take, found out from a few samples."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, get_args

import torch

from . import memory, shards
from .engine import Engine
from .execution import Execution, Precision
from .trials import MOST_TRIALS, Change, choose, without_failing_compiler

COMPILING = 20 * 60.0  # seconds of a run in which a minute or two of compilation are little
TRYING = 0.05  # of a budget, for trials


def prepare(engine: Engine, steps: int | None = None, seconds: float | None = None) -> Execution:
    """Let ``engine`` compute steps in the fastest way, found by trial the first time; all processes call it.

    Costs a few seconds, of a short budget a twentieth, and a compilation where that pays.

    Arguments:
        engine: the engine.
        steps: what the run still has to go, in steps.
        seconds: the same in seconds.
    """
    if engine.execution is None:
        best, changes = candidates(engine)
        if not engine.compute.shard:  # no process can try its shards alone
            trial, key = _Trial(engine, best, math.inf if seconds is None else TRYING * seconds), _key(engine)
            if engine.world.is_main:
                best = choose(best, changes, trial, key, trial.seconds, trial.full_length)
            if _worth_compiling(engine, best, steps, seconds):  # on all at once: others would wait too long
                best = choose(best, [{"compiled": True}], trial, key)
        _apply(engine, best, _fitting_micro_batch(engine, best))
    assert engine.execution is not None
    return engine.execution


def seconds_per_step(engine: Engine) -> float:
    """What a step takes, from the time that a part of one takes; all processes call it."""
    execution = prepare(engine)
    count = _most_samples(engine, execution)
    engine.configure_network(execution)
    engine.rehearse(count)
    started = time.perf_counter()
    engine.rehearse(count)
    return (time.perf_counter() - started) / count * engine.batch / engine.world.size


def bytes_needed(engine: Engine) -> float:
    """Memory that a step takes besides the data; all processes call it."""
    return _memory_needed(engine, prepare(engine))(min(engine.rows, engine.micro_batch or engine.rows))


def restore(engine: Engine, rounding: Mapping[str, Any]) -> None:
    """Compute steps as a checkpoint's ``rounding`` says, where options and machine allow it; all processes call it.

    On another kind of device the execution is chosen again.
    """
    if rounding.get("device") != engine.device.type:
        prepare(engine)
        return
    execution, changes = candidates(engine)
    required = engine.compute
    allowed = {name: [change[name] for change in changes if name in change] for name in asdict(execution)}
    if required.precision == "auto":
        allowed["precision"] = list(get_args(Precision))
    if not required.threads:
        allowed["threads"] = list(range(1, engine.max_threads + 1))
    if required.compile is not False and _compilable(engine):
        allowed["compiled"] = [True]
    former = {name: rounding[name] for name, values in allowed.items() if rounding.get(name) in values}
    execution = replace(execution, **former)
    if execution.compiled:
        execution = without_failing_compiler(execution, _Trial(engine, execution))
    # What fitted into memory fits again if as much goes into it.
    same_world = [rounding.get(name) for name in ("processes", "sharded")] == [engine.world.size, required.shard]
    micro_batch = rounding.get("micro_batch") if required.micro_batch is None else required.micro_batch
    valid = micro_batch is None or (isinstance(micro_batch, int) and micro_batch > 0)
    _apply(engine, execution, micro_batch if same_world and valid else _fitting_micro_batch(engine, execution))


def _apply(engine: Engine, execution: Execution, micro_batch: int | None) -> None:
    """Apply what the first process has found."""
    found = engine.world.gather_text(json.dumps([asdict(execution), micro_batch]))[0]
    fields, micro_batch = json.loads(found)
    engine.apply(Execution(**fields), micro_batch)


def candidates(engine: Engine) -> tuple[Execution, list[Change]]:
    """The execution to begin with, and the changes that the options and the network leave open."""
    required, most = engine.compute, engine.max_threads
    cpu = engine.device.type == "cpu"
    # Images and signals, in a loss that differentiates the network once.
    open_choice = engine.configurable is not None and not engine.loss.differentiates
    precision: Precision = "float32"
    changes: list[Change] = []
    if required.precision != "auto":
        precision = required.precision
    elif open_choice and cpu:
        changes.append({"precision": "bfloat16"})
    elif open_choice:
        precision = "bfloat16"
    if required.shard:  # no process can try its shards alone
        return Execution(required.threads or most, precision, lean_norms=open_choice), []
    if open_choice:
        changes.append({"attention": "fused"})
    if open_choice and engine.model.spec.layout.dimensions == 2:
        changes.append({"layout": "channels_last"})
    if open_choice:
        changes.append({"lean_norms": True})
    threads = required.threads or (1 if cpu and engine.world.size == 1 else most)
    if threads < most and not required.threads:
        changes.append({"threads": most})
    return Execution(threads, precision), changes


def _compilable(engine: Engine) -> bool:
    return engine.configurable is not None and not engine.compute.shard


def _worth_compiling(engine: Engine, execution: Execution, steps: int | None, seconds: float | None) -> bool:
    """Whether to try it. On CPUs the gain was not worth the minutes, whatever the run's length."""
    wanted = engine.compute.compile
    if wanted is not None or engine.device.type == "cpu" or not _compilable(engine):
        return bool(wanted)
    if seconds is None:
        seconds = 0.0 if steps is None else steps * seconds_per_step(engine)
    return engine.world.max(float(seconds))[0] >= COMPILING


def _key(engine: Engine) -> str:
    """What the outcome of a trial depends on, besides the machine and the choices."""
    device = torch.cuda.get_device_name(engine.device) if engine.device.type == "cuda" else "cpu"
    shapes = [list(p.shape) for p in engine.state.weights]
    recompute = engine.compute.gradient_checkpointing
    return fingerprint([device, list(engine.model.spec.model_shape), engine.batch, shapes, recompute])


def fingerprint(data: Any) -> str:
    """The SHA-256 of plain data, in hexadecimal."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


class _Trial:
    """What a step computes of some samples, in the first execution as many as fit in memory.

    Arguments:
        engine: the engine.
        first: the execution to begin with.
        seconds: for all trials; few of them take fewer samples.
    """

    def __init__(self, engine: Engine, first: Execution, seconds: float = math.inf) -> None:
        self.seconds = seconds
        self._engine = engine
        self._first = first

    def __call__(self, execution: Execution) -> None:
        self._engine.configure_network(execution)
        self._engine.rehearse(self._count)

    def full_length(self) -> bool:
        """Whether the trials take as many samples as they should."""
        return self._count == self._most

    @cached_property
    def _most(self) -> int:
        return _most_samples(self._engine, self._first)

    @cached_property
    def _count(self) -> int:
        """The samples, found out when they are needed: a choice that is remembered takes no time."""
        engine, most = self._engine, self._most
        if math.isinf(self.seconds):
            return most
        engine.rehearse(1)  # warms up
        started = time.perf_counter()
        engine.rehearse(2)
        each = (time.perf_counter() - started) / 2
        return max(1, min(most, int(self.seconds / (each * MOST_TRIALS))))


def _most_samples(engine: Engine, execution: Execution) -> int:
    fitting = _fitting_micro_batch(engine, execution) or engine.rows
    few = 4 * max(1, 8192 // math.prod(engine.model.spec.model_shape))
    return min(fitting, engine.rows, few) if engine.device.type == "cpu" else min(fitting, engine.rows)


def _memory_needed(engine: Engine, execution: Execution) -> Callable[[int], float]:
    """Bytes that a step takes, by the samples per forward pass."""
    engine.configure_network(replace(execution, compiled=False))  # it would be compiled for each number of samples
    constant, per_sample = memory.by_sample(engine.first_losses, (1, min(3, engine.batch)))
    fixed = memory.fixed(shards.local(p) for p in engine.state.weights)
    return lambda samples: fixed + constant + samples * per_sample


def _fitting_micro_batch(engine: Engine, execution: Execution) -> int | None:
    """Samples per forward pass; None for all that a process has."""
    if engine.compute.micro_batch is not None:
        return engine.compute.micro_batch
    needed = _memory_needed(engine, execution)
    fitting = memory.fitting_samples(engine.rows, needed, memory.free(engine.device))
    return None if fitting == engine.rows else fitting
