"""What a run computes: steps, and the state that they move. Knows nothing of a folder, a budget or a record."""

import copy
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sfumato.data import Order
from sfumato.denoisers import NetworkDenoiser
from sfumato.errors import InputError
from sfumato.model import Model, fill
from sfumato.networks import UNet
from sfumato.numerics.density import Density
from sfumato.world import World

from . import guards, memory, shards
from .ema import EMA
from .execution import COMPILING, Change, Compute, Execution, Layout, Precision, choose, reachable
from .optimizer import adamw, load_optimizer, optimizer_tensors
from .part import Part
from .step import Batch, Draws, Losses


class Engine:
    """Trains ``model`` on ``data``, on the device where that is, as one process of a ``world``.

    A step: images number ``seen .. seen + batch`` of an endless shuffled sequence, a time and a noise that belong to
    that number, the loss, AdamW with clipping and warm-up, the averages. ``samples`` are the numbers by which
    messages call those of the data. Raises InputError when the batch cannot be shared.
    """

    def __init__(self, model: Model, data: Part, samples: Int64[Tensor, "n"], compute: Compute, world: World) -> None:
        settings = model.recipe.training
        self._settings = settings
        self._compute = compute
        self._world = world
        self.batch = settings.batch_for(model.spec)
        if self.batch < world.size:
            raise InputError(f"training.batch: {self.batch} samples, for {world.size} processes; give as many at least")
        self.model = model
        self.data = data
        self._samples = samples
        self.images = 0
        self.rewinds = 0
        self.module = model.module.train()
        self.ema = EMA(self.module)
        if compute.shard:
            self._shard()
        for module in (self.module, *self.ema.modules):
            module.to(self.device)
        self.loss = model.recipe.build_loss(model.spec).to(self.device)
        self.draws = Draws(data, Order(len(samples), settings.seed), self.loss, settings.seed, settings.augment)
        self._weights = list(self._network.parameters())
        held = {id(p) for p in self._weights}
        # A learned schedule's numbers and loss-aware times: few, with gradients that are not to shrink the network's.
        self._numbers = [p for p in (*self.module.parameters(), *self.loss.parameters()) if id(p) not in held]
        self._densities = [m for m in (*self.module.modules(), *self.loss.modules()) if isinstance(m, Density)]
        self._optimizer = adamw(self._weights, self._numbers, settings.learning_rate, settings.weight_decay)
        self._losses = Losses(self.module, self.loss, torch.float32)
        self.execution: Execution | None = None
        self.micro_batch = compute.micro_batch
        self._kept: tuple[float, float] | None = None
        if compute.gradient_checkpointing:
            if not isinstance(self._network, UNet):
                raise InputError("--gradient-checkpointing: for a U-Net; this network is small, leave it out")
            self._network.recompute()
        self.unseen: list[tuple[int, Tensor, Tensor]] = []  # (images before, loss, norm) of steps not looked at
        self._optimizer.found_inf = self._bad = torch.zeros((), device=self.device)  # type: ignore[attr-defined]
        self._layout: Layout = "channels_first"
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # batches have one shape

    @property
    def device(self) -> torch.device:
        """Where the data is, and the module."""
        return self.data.values.device

    @property
    def _network(self) -> nn.Module:
        """Where a bad layer is looked for: not in a schedule that is learned, which has none."""
        return self.module.network if isinstance(self.module, NetworkDenoiser) else self.module

    @cached_property
    def _shared(self) -> nn.Module:
        """The losses, their gradients averaged over the processes; made when the weights are where they stay."""
        if self._world.size == 1 or self._compute.shard:
            return self._losses
        shared = DistributedDataParallel(self._losses, gradient_as_bucket_view=True)
        shared.require_forward_param_sync = False  # buffers never change
        return shared

    def _shard(self) -> None:
        if self._world.size == 1:
            raise InputError("--shard: parts a network among processes; start several with torchrun")
        for module in (self.module, *self.ema.modules):
            if not isinstance(module, NetworkDenoiser):
                raise InputError("--shard: for the network of a diffusion model; a hierarchical VAE is small")
            shards.shard(module.network, self.device)

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self.images // self.batch

    def step(self) -> tuple[float, float]:
        """One update. Returns (loss, norm of the gradient before clipping)."""
        self.queue()
        return self.look()[-1]

    def queue(self) -> None:
        """One update, which a GPU is given to do and not waited for.

        From a loss or a norm that is not finite on, weights stay as they are, until ``look`` tells of it.
        """
        batch = self.draws.batch(self.images, self.batch, self._world.rows(self.batch))
        self._optimizer.zero_grad(set_to_none=True)
        for density in self._densities:
            density.forget()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for part, last in self._parts(batch):
            loss += self._backward(part, last).sum()  # gradients travel once, with the last ones
        loss = self._world.sum(loss) / self.batch
        norm = self._clip()
        self._bad.copy_(torch.maximum(self._bad, (~(loss + norm).isfinite()).float()))
        self.unseen.append((self.images, loss, norm))
        self.images += self.batch
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate(self.images)
        self._optimizer.step()
        self.ema.update(list(self.module.parameters()), self.images, self.batch)

    def look(self) -> list[tuple[float, float]]:
        """(Loss, norm of the gradient before clipping) of the steps since the last look, which have then been made.

        Raises NonFiniteError, on all processes, for the first that is not finite, and is where that step began.
        """
        unseen, self.unseen = self.unseen, []
        if not unseen:
            return []
        found: list[list[float]] = torch.stack([torch.stack(seen[1:]) for seen in unseen]).tolist()
        for (images, _, _), (loss, norm) in zip(unseen, found, strict=True):
            if not math.isfinite(loss + norm):
                self.images = images
                self._bad.zero_()
                raise self._explained(loss)
        return [(loss, norm) for loss, norm in found]

    def _backward(self, part: Batch, sync: bool) -> Tensor:
        """Add the gradient of these samples' share of the mean over the batch; their losses (b,)."""
        shared = self._shared
        if isinstance(shared, DistributedDataParallel):
            shared.require_backward_grad_sync = sync
        elif self._compute.shard:
            shards.synchronise(self._network, sync)
        losses: Tensor = shared(part)
        # Processes average their gradients, of which each is to be a part of the sum.
        torch.autograd.backward(losses.sum() * (self._world.size / self.batch))
        return losses.detach()

    def _clip(self) -> Tensor:
        """The norm of the whole gradient, from before its clipping. Whoever wraps the network leaves out the numbers.

        The numbers' own norm is clipped by itself.
        """
        if self._compute.shard:
            for p in self._numbers:
                assert p.grad is not None
                self._world.sum(p.grad.div_(self._world.size))
        for density in self._densities:
            density.settle(self._world.sum)
        norms = [
            shards.whole(torch.nn.utils.clip_grad_norm_(parameters, self._settings.clip)).double()
            for parameters in (self._weights, self._numbers)
            if parameters
        ]
        norm: Tensor = torch.stack(norms).norm()
        return norm

    def _explained(self, loss: float) -> guards.NonFiniteError:
        """What is wrong with the step at hand, which all processes compute once more to tell."""
        batch = self.draws.batch(self.images, self.batch, self._world.rows(self.batch))
        logsnr = self._logsnr(batch)
        if math.isfinite(loss):
            self._optimizer.zero_grad(set_to_none=True)
            for part, sync in self._parts(batch):
                self._backward(part, sync)
            found = int(self._world.greatest(float(guards.last_bad_gradient(self._network)))[0])
            if logsnr is not None:
                high, low = self._world.greatest(float(logsnr.max()), -float(logsnr.min()))
                logsnr = torch.tensor([-low, high])
            return guards.explain_gradient(self.steps + 1, logsnr, self._network, found)
        with torch.no_grad(), guards.bad_layers(self._network) as layers:
            losses = torch.cat([self._losses(part) for part, _ in self._parts(batch)])
        told = self._world.tell(
            guards.explain_losses(losses, batch.x_0, self._samples[batch.samples.cpu()], logsnr, layers)
        )
        texts = [f"process {rank}: {text}" if len(told) > 1 else text for rank, text in enumerate(told) if text]
        return guards.NonFiniteError(f"non-finite loss at step {self.steps + 1}: {'; '.join(texts)}")

    def _parts(self, batch: Batch) -> Iterator[tuple[Batch, bool]]:
        """This process's rows in as many parts as every process has, and whether a part is the last one."""
        rows = len(batch.x_0)
        count = min(-(-self._share // (self.micro_batch or self._share)), self.batch // self._world.size)
        for i in range(count):
            yield batch.rows(rows * i // count, rows * (i + 1) // count), i == count - 1

    def _logsnr(self, batch: Batch) -> Tensor | None:
        levels = self.loss.levels(self.module, batch.uniform)
        return None if levels is None else levels[1]

    def learning_rate(self, images: int) -> float:
        """The rate of the step that brings the count to ``images``, whatever the length of the run.

        Linear over the warm-up, constant, then as ``1 / sqrt(images)`` from ``decay_after`` on (Karras et al. 2024,
        eq. 67); halved by every rewind.
        """
        rising = images / max(self._settings.warmup, 1)
        falling = math.sqrt(self._settings.decay_after / images)
        return self._settings.learning_rate * min(1.0, rising, falling) * 0.5**self.rewinds

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of a checkpoint, by part and name: those that the next step changes.

        Where the network is sharded, this process's part of them, and only the first process has those that are not.
        Raises NonFiniteError, on all processes, for weights that are not finite.
        """
        bad = [name for name, p in self.module.named_parameters() if not shards.local(p).isfinite().all()]
        if found := [name for name in self._world.tell(bad[0] if bad else "") if name]:
            raise guards.NonFiniteError(f"non-finite weights at step {self.steps}; first bad layer: {found[0]}")
        parts = {
            "weights": self.module.state_dict(),
            "averages": self.ema.state(),
            "objective": self.loss.state_dict(),
            "optimizer": optimizer_tensors(self._optimizer),
        }
        return {name: self._own(tensors) for name, tensors in parts.items()}

    def _own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: shards.local(tensor)
            for name, tensor in tensors.items()
            if self._world.leads or shards.sharded(tensor) or tensor.ndim == 0
        }

    def past(self) -> dict[str, dict[str, Tensor]]:
        """The averages as a part of a checkpoint."""
        return {"averages": self._own(self.ema.state())}

    def averages(self) -> dict[str, Tensor]:
        """What ``EMA.state`` gives, whole; all processes call it."""
        return {name: shards.whole(tensor) for name, tensor in self.ema.state().items()}

    def averaged_state(self) -> dict[str, Tensor]:
        """The weights of the longest average, whole, copied to the CPU; all processes call it."""
        state = self.ema.modules[-1].state_dict()
        return {name: shards.whole(tensor).detach().to("cpu", copy=True) for name, tensor in state.items()}

    def averaged(self) -> Model:
        """A model of its own memory with the weights of the longest average, whole; all processes call it."""
        if not self._compute.shard:
            module = copy.deepcopy(self.ema.modules[-1])
            module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            return Model(module, self.model.spec, self.model.recipe)
        model = Model.fresh(self.model.recipe, self.model.spec)
        model.module.load_state_dict(self.averaged_state())
        model.module.to(self.device).eval().requires_grad_(False)
        return model

    def fill(self, parts: dict[str, dict[str, Tensor]], images: int, rewinds: int, place: Path) -> None:
        """The inverse of ``parts``, some of which it keeps, after so many images and rewinds.

        Raises InputError that names a file of ``place`` where tensors do not fit.
        """
        for name, module in {"weights": self.module, "objective": self.loss}.items():
            own, given = module.state_dict(), parts.get(name, {})
            fitting = {key: shards.like(value, own[key]) if key in own else value for key, value in given.items()}
            fill(module, fitting, place / f"{name}.safetensors")
        self.ema.load(parts.get("averages", {}), self.module, place / "averages.safetensors")
        load_optimizer(self._optimizer, parts.get("optimizer", {}))
        self.images, self.rewinds = images, rewinds

    def prepare(self, steps: int | None = None, seconds: float | None = None) -> Execution:
        """How steps are computed, found by trial the first time. Costs a few seconds, and a compilation where it pays.

        ``steps`` or ``seconds`` are what the run still has to go.
        """
        if self.execution is None:
            first, changes = self._ways()
            key = fingerprint([list(self.model.spec.shape), self.batch, [list(p.shape) for p in self._weights]])
            way = first
            if self._world.leads and not self._compute.shard:
                way = choose(first, changes, self._trial, key)
                if self._compiles(way, steps, seconds):
                    way = choose(way, [{"compiled": True}], self._trial, f"{key} compiled")
            told = [asdict(way), self._part_that_fits(way)]
            fields, part = json.loads(self._world.tell(json.dumps(told))[0])
            self.execute(Execution(**fields), part)
        assert self.execution is not None
        return self.execution

    def _compiles(self, way: Execution, steps: int | None, seconds: float | None) -> bool:
        """Whether to try it. On CPUs the gain was not worth the minutes, whatever the run's length."""
        wanted = self._compute.compile
        if wanted is not None or self.device.type == "cpu":
            return bool(wanted)
        if seconds is None:
            seconds = 0.0 if steps is None else steps * self._seconds(way)
        return seconds >= COMPILING

    def forecast(self) -> tuple[float, float]:
        """(Seconds to a step, bytes of memory beside the data), from a few samples."""
        way = self.prepare()
        return self._seconds(way), self._bytes(min(self._share, self.micro_batch or self._share), way)

    def _seconds(self, way: Execution) -> float:
        """What a step takes this process."""
        self._trial(way)
        started = time.perf_counter()
        self._trial(way)
        return (time.perf_counter() - started) / self._rows_of_a_trial * self.batch / self._world.size

    def _part_that_fits(self, way: Execution) -> int | None:
        """How many samples at a time; None for all that this process has."""
        if self._compute.micro_batch is not None:
            return self._compute.micro_batch
        part = memory.part_that_fits(self._share, lambda n: self._bytes(n, way), memory.free(self.device))
        return None if part == self._share else part

    def _losses_of_first(self, rows: int) -> Tensor:
        losses: Tensor = self._losses(self.draws.batch(self.images, self.batch, (0, rows)))
        return losses

    def _bytes(self, samples: int, way: Execution) -> float:
        """What a step of so many samples at a time takes."""
        if self._kept is None:
            self._take(way)
            counts = (1, min(3, self.batch))
            self._kept = memory.by_sample(self._losses_of_first, counts)
        whatever, each = self._kept
        return memory.fixed(shards.local(p) for p in self._weights) + whatever + samples * each

    @property
    def _share(self) -> int:
        """The most samples of a batch that a process has."""
        return -(-self.batch // self._world.size)

    @property
    def _rows_of_a_trial(self) -> int:
        few = 4 * max(1, 8192 // self.data.values[0].numel())
        return min(self._share, few) if self.device.type == "cpu" else self._share

    def execute(self, way: Execution, micro_batch: int | None) -> None:
        """Compute the steps to come in this ``way``, so many samples at a time, or all."""
        torch.set_num_threads(way.threads)
        self._take(way)
        self.execution, self.micro_batch = way, micro_batch

    def _take(self, way: Execution) -> None:
        """Set the network up for a ``way``, but for its threads."""
        self._losses.precision = way.dtype
        if not isinstance(self._network, UNet) or self._compute.shard:
            return
        self._network.attend(fused=way.attention == "fused")
        if way.layout != self._layout:
            self._layout = way.layout
            wanted = torch.channels_last if way.layout == "channels_last" else torch.contiguous_format
            for module in (self.module, *self.ema.modules):
                module.to(memory_format=wanted)  # type: ignore[call-overload]
            self.ema.moved()
            for p, state in self._optimizer.state.items():  # which the fused optimiser takes number by number
                state.update({name: shards.like(value, p.detach()) for name, value in state.items()})
        if way.compiled != (self._network._compiled_call_impl is not None):
            self._network._compiled_call_impl = None
            if way.compiled:
                self._network.compile()

    def bits(self) -> dict[str, Any]:
        """What the last bits of a run depend on, beside its recipe and its data."""
        return {
            "torch": torch.__version__,
            **asdict(self.prepare()),
            "micro_batch": self.micro_batch,
            "processes": self._world.size,
            "sharded": self._compute.shard,
            "device": self.device.type,
        }

    def as_before(self, bits: Mapping[str, Any]) -> None:
        """Compute steps as they were computed, where nothing else is asked for and this machine can."""
        first, changes = self._ways()
        given = self._compute
        if given.compile is not False:
            changes.append({"compiled": True})
        if not given.threads:
            changes += [{"threads": n} for n in range(1, torch.get_num_threads() + 1)]
        known = reachable(first, changes, {name: bits.get(name) for name in asdict(first)})
        part = given.micro_batch or bits.get("micro_batch")
        self.execute(known or first, part if isinstance(part, int) and part > 0 else None)

    def _ways(self) -> tuple[Execution, list[Change]]:
        """The way to begin with, and what else may be tried that options and the network leave open."""
        given, most = self._compute, torch.get_num_threads()
        cpu = self.device.type == "cpu"
        pictures = isinstance(self._network, UNet)
        once = pictures and not self.loss.differentiates
        precision: Precision = "float32"
        changes: list[Change] = []
        if given.precision != "auto":
            precision = given.precision
        elif once and cpu:
            changes.append({"precision": "bfloat16"})
        elif once:
            precision = "bfloat16"
        if given.shard:  # whose parts no process can try alone
            return Execution(given.threads or most, precision), []
        if once:
            changes.append({"attention": "fused"})
        if once and len(self.model.spec.shape) == 3:
            changes.append({"layout": "channels_last"})
        threads = given.threads or (1 if cpu and self._world.size == 1 else most)
        if threads < most and not given.threads:
            changes.append({"threads": most})
        return Execution(threads, precision), changes

    def _trial(self, way: Execution) -> None:
        """What a step computes of a few samples, without its effect."""
        self._take(way)
        torch.autograd.backward(self._losses_of_first(self._rows_of_a_trial).mean())
        self._optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def fingerprint(data: Any) -> str:
    """The SHA-256 of plain data, in hexadecimal."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
