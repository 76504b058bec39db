"""How an engine's steps are to be computed, and what they will take, found out from a few samples."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, get_args

import torch

from sfumato.networks import UNet

from . import memory, shards
from .engine import Engine, fingerprint
from .execution import COMPILING, Change, Execution, Precision, choose, possible


def prepare(engine: Engine, steps: int | None = None, seconds: float | None = None) -> Execution:
    """Let ``engine`` compute steps in the best way, found by trial the first time; all processes call it.

    Costs a few seconds, and a compilation where that pays. ``steps`` or ``seconds`` are what the run still has to go.
    """
    if engine.execution is None:
        way, changes = ways(engine)
        if not engine.compute.shard:  # whose parts no process can try alone
            trial, key = _trial(engine, way), _key(engine)
            if engine.world.is_main:
                way = choose(way, changes, trial, key)
            if _compiles(engine, way, steps, seconds):  # all at once, as it may take longer than others wait
                way = choose(way, [{"compiled": True}], trial, key)
        _settle(engine, way, _part_that_fits(engine, way))
    assert engine.execution is not None
    return engine.execution


def forecast(engine: Engine) -> tuple[float, float]:
    """(Seconds to a step, bytes of memory beside the data) of an engine that is prepared; all processes call it."""
    way = prepare(engine)
    return _seconds(engine, way), _needed(engine, way)(min(engine.share, engine.micro_batch or engine.share))


def as_before(engine: Engine, bits: Mapping[str, Any]) -> None:
    """Compute steps as they were computed, where nothing else is asked for and this machine can; all processes call it.

    On another kind of device the best way is found anew.
    """
    if bits.get("device") != engine.device.type:
        prepare(engine)
        return
    way, changes = ways(engine)
    given, most = engine.compute, engine.most_threads
    open_to = {name: [change[name] for change in changes if name in change] for name in asdict(way)}
    if given.precision == "auto":
        open_to["precision"] = list(get_args(Precision))
    if not given.threads:
        open_to["threads"] = list(range(1, most + 1))
    if given.compile is not False and _compilable(engine):
        open_to["compiled"] = [True]
    way = replace(way, **{name: bits[name] for name, values in open_to.items() if bits.get(name) in values})
    if way.compiled:
        way = possible(way, _trial(engine, way))
    # What fitted into memory does so again where as much is in it.
    former = [bits.get(name) for name in ("processes", "sharded")] == [engine.world.size, given.shard]
    part = bits.get("micro_batch") if given.micro_batch is None else given.micro_batch
    if not former or not (part is None or (isinstance(part, int) and part > 0)):
        part = _part_that_fits(engine, way)
    _settle(engine, way, part)


def _settle(engine: Engine, way: Execution, part: int | None) -> None:
    """As the first process has found."""
    fields, part = json.loads(engine.world.gather_text(json.dumps([asdict(way), part]))[0])
    engine.execute(Execution(**fields), part)


def ways(engine: Engine) -> tuple[Execution, list[Change]]:
    """The way to begin with, and what else may be tried that options and the network leave open."""
    given, most = engine.compute, engine.most_threads
    cpu = engine.device.type == "cpu"
    # Pictures and signals, in a loss that differentiates the network once.
    once = isinstance(engine.network, UNet) and not engine.loss.differentiates
    precision: Precision = "float32"
    changes: list[Change] = []
    if given.precision != "auto":
        precision = given.precision
    elif once and cpu:
        changes.append({"precision": "bfloat16"})
    elif once:
        precision = "bfloat16"
    if given.shard:  # whose parts no process can try alone
        return Execution(given.threads or most, precision, spares=once), []
    if once:
        changes.append({"attention": "fused"})
    if once and engine.model.spec.layout.dimensions == 2:
        changes.append({"layout": "channels_last"})
    if once:
        changes.append({"spares": True})
    threads = given.threads or (1 if cpu and engine.world.size == 1 else most)
    if threads < most and not given.threads:
        changes.append({"threads": most})
    return Execution(threads, precision), changes


def _compilable(engine: Engine) -> bool:
    return isinstance(engine.network, UNet) and not engine.compute.shard


def _compiles(engine: Engine, way: Execution, steps: int | None, seconds: float | None) -> bool:
    """Whether to try it. On CPUs the gain was not worth the minutes, whatever the run's length."""
    wanted = engine.compute.compile
    if wanted is not None or engine.device.type == "cpu" or not _compilable(engine):
        return bool(wanted)
    if seconds is None:
        seconds = 0.0 if steps is None else steps * _seconds(engine, way)
    return engine.world.max(float(seconds))[0] >= COMPILING


def _key(engine: Engine) -> str:
    """What a trial's outcome depends on, beside the machine and what was to choose from."""
    device = torch.cuda.get_device_name(engine.device) if engine.device.type == "cuda" else "cpu"
    shapes = [list(p.shape) for p in engine.weights]
    anew = engine.compute.gradient_checkpointing
    return fingerprint([device, list(engine.model.spec.model_shape), engine.batch, shapes, anew])


def _trial(engine: Engine, way: Execution) -> Callable[[Execution], None]:
    """What a step computes of as many samples as fit when computed in this ``way``."""
    rows = _rows(engine, way)

    def trial(other: Execution) -> None:
        engine.take(other)
        engine.try_first(rows)

    return trial


def _rows(engine: Engine, way: Execution) -> int:
    """How many samples a trial takes."""
    rows = _part_that_fits(engine, way) or engine.share
    few = 4 * max(1, 8192 // math.prod(engine.model.spec.model_shape))
    return min(rows, engine.share, few) if engine.device.type == "cpu" else min(rows, engine.share)


def _seconds(engine: Engine, way: Execution) -> float:
    """What a step takes a process."""
    rows = _rows(engine, way)
    engine.take(way)
    engine.try_first(rows)
    started = time.perf_counter()
    engine.try_first(rows)
    return (time.perf_counter() - started) / rows * engine.batch / engine.world.size


def _needed(engine: Engine, way: Execution) -> Callable[[int], float]:
    """Bytes that a step takes, by the number of samples at a time."""
    engine.take(replace(way, compiled=False))  # which is compiled for each number of samples
    whatever, each = memory.by_sample(engine.losses_of_first, (1, min(3, engine.batch)))
    fixed = memory.fixed(shards.local(p) for p in engine.weights)
    return lambda samples: fixed + whatever + samples * each


def _part_that_fits(engine: Engine, way: Execution) -> int | None:
    """How many samples at a time; None for all that this process has."""
    if engine.compute.micro_batch is not None:
        return engine.compute.micro_batch
    part = memory.part_that_fits(engine.share, _needed(engine, way), memory.free(engine.device))
    return None if part == engine.share else part
