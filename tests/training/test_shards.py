"""A network in shards beside the same network whole: two processes, started by torchrun's module."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato import kinds, recipes
from sfumato.data import DataOptions, load
from sfumato.errors import InputError
from sfumato.runs.folder import RunFolder
from sfumato.training import Compute, Options, Trainer

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

# A learned schedule, beside the network; dropout; parts of a batch that two processes share unevenly.
SCRIPT = """
import dataclasses, faulthandler, sys
from pathlib import Path
import torch
from sfumato import recipes
from sfumato.data import DataOptions, load
from sfumato import kinds
from sfumato.runs.folder import RunFolder
from sfumato.training import Compute, NonFiniteError, Options, Trainer, joined
from sfumato.training import autotune, shards

faulthandler.dump_traceback_later(100, exit=True)
torch.set_num_threads(1)
CPU = torch.device("cpu")
small = ["network.width=16", "network.multipliers=[1,2]", "network.blocks=1", "network.attention=[4]"]
settings = ["network.kind=unet", *small, "network.dropout=0.1", "training.batch=13", "training.warmup=0"]
dataset = load("digits", DataOptions(limit=60))

def made(compute, world, name="vdm"):
    torch.manual_seed(0)
    model = kinds.fresh(recipes.read(name, settings), dataset.spec)
    with torch.no_grad():
        for weight in model.module.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return Trainer(model, dataset.samples(), RunFolder(Path(sys.argv[1])), Options(compute=compute), world)

with joined(CPU, 60) as world:
    common = Compute(precision="float32", threads=1)
    whole = made(common, type(world)()).engine
    trainer = made(dataclasses.replace(common, shard=True, micro_batch=3, gradient_checkpointing=True), world)
    engine = trainer.engine
    for _ in range(3):
        ours, theirs = engine.step(), whole.step()
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-5, atol=1e-6)
    states = [e.state.module.state_dict() for e in (engine, whole)]
    for name, value in states[1].items():
        torch.testing.assert_close(shards.whole(states[0][name]), value, rtol=1e-3, atol=1e-4)
    held = sum(shards.local(p).numel() for p in engine.state.module.parameters())
    assert held < 0.55 * sum(p.numel() for p in whole.state.module.parameters())
    autotune.prepare(engine)
    assert engine.rounding()["sharded"]
    # The averages are measured in shards, and put together for what comes after.
    value = trainer.held_out.value(trainer.averaged.module)
    assert abs(value - trainer.held_out.value(engine.state.averaged_model().module)) < 1e-5
    engine.step()
    whole.step()
    value = trainer.held_out.value(trainer.averaged.module)
    assert abs(value - trainer.held_out.value(whole.state.ema.modules[-1])) < 1e-4
    # One image is bad: all are told of it, and by whom; and of a bad gradient, in one's part or the other's.
    engine = made(dataclasses.replace(common, shard=True, micro_batch=3), world, "ddpm").engine
    engine.step()
    sample = engine.draws.order.indices(engine.images + 9, 1)
    values, row = engine.data.source.values, engine.data.index[sample]
    former = values[row]
    values[row] = float("nan")
    def refused():
        try:
            engine.step()
        except NonFiniteError as error:
            sys.stdout.write(f"{world.rank}: {error}\\n")  # in one piece
            sys.stdout.flush()
    refused()
    values[row] = former
    block = engine.network.middle[0]
    handle = block.register_full_backward_hook(lambda m, got, its: (got[0] / 0, *got[1:]))
    refused()
    handle.remove()
    assert engine.images == 13
    saved = [x for tensors in engine.state.tensors().values() for x in tensors.values()]
    states = [*engine.state.module.state_dict().values(), *saved]
    assert all(shards.local(value).isfinite().all() for value in states)
    engine.step()
"""


def test_a_network_in_shards_is_the_network(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*TORCHRUN, str(script), str(tmp_path / "run")], capture_output=True, text=True, env=environment, timeout=200
    )
    assert done.returncode == 0, done.stderr
    said = sorted(done.stdout.splitlines())
    assert len(said) == 4
    assert [line.replace("1: ", "0: ", 1) for line in said[2:]] == said[:2]  # as each process tells
    assert re.match(r"0: non-finite gradient at step 2 \(log-SNR .*first bad layer: down", said[0])
    assert re.match(r"0: non-finite loss at step 2: process 1: sample .*the data itself is not finite$", said[1])


def test_one_process_has_nobody_to_share_with(tmp_path: Path) -> None:
    dataset = load("moons", DataOptions(count=50))
    model = kinds.fresh(recipes.read("ddpm"), dataset.spec)
    with pytest.raises(InputError, match=r"^--shard: .*torchrun"):
        Trainer(model, dataset.samples(), RunFolder(tmp_path), Options(compute=Compute(shard=True)))
