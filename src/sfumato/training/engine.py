"""What a run computes: steps, and the state that they move. Knows nothing of a folder, a budget or a record."""

import hashlib
import json
import math
import time
from dataclasses import asdict
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
from sfumato.world import World

from . import guards, memory
from .ema import EMA
from .execution import Compute, Execution, Precision, choose
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
        self.module = model.module.to(self.device).train()
        self.loss = model.recipe.build_loss(model.spec).to(self.device)
        self.draws = Draws(data, Order(len(samples), settings.seed), self.loss, settings.seed, settings.augment)
        self.ema = EMA(self.module)
        self._weights = list(self._network.parameters())
        held = {id(p) for p in self._weights}
        # A learned schedule's numbers and loss-aware times: few, with gradients that are not to shrink the network's.
        self._numbers = [p for p in (*self.module.parameters(), *self.loss.parameters()) if id(p) not in held]
        self._optimizer = adamw(self._weights, self._numbers, settings.learning_rate, settings.weight_decay)
        self._losses = Losses(self.module, self.loss, torch.float32)
        self.execution: Execution | None = None
        self.micro_batch = compute.micro_batch
        self._kept: tuple[float, float] | None = None
        if compute.gradient_checkpointing:
            if not isinstance(self._network, UNet):
                raise InputError("--gradient-checkpointing: for a U-Net; this network is small, leave it out")
            self._network.recompute()
        self._shared: nn.Module = self._losses
        if world.size > 1:
            self._shared = DistributedDataParallel(self._losses, gradient_as_bucket_view=True)
            self._shared.require_forward_param_sync = False  # buffers never change

    @property
    def device(self) -> torch.device:
        """Where the data is, and the module."""
        return self.data.values.device

    @property
    def _network(self) -> nn.Module:
        """Where a bad layer is looked for: not in a schedule that is learned, which has none."""
        return self.module.network if isinstance(self.module, NetworkDenoiser) else self.module

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self.images // self.batch

    def step(self) -> tuple[float, float]:
        """One update. Returns (loss, norm of the gradient before clipping)."""
        settings = self._settings
        first, last = self._world.rows(self.batch)
        batch = self.draws.batch(self.images, self.batch, (first, last))
        size = self.micro_batch or last - first
        self._optimizer.zero_grad(set_to_none=True)
        total, bad = 0.0, ""
        for begin in range(0, last - first, size):
            part = batch.rows(begin, begin + size)
            sync = begin + size >= last - first  # gradients travel once, with the last ones
            losses = self._backward(part, sync)
            value = float(losses.sum())
            total += value
            if not math.isfinite(value) and not bad:
                bad = self._explain(part, losses)
        loss, found = self._world.total(total / self.batch, float(bool(bad)))
        if found or not math.isfinite(loss):
            raise guards.NonFiniteError(f"non-finite loss at step {self.steps + 1}: {self._told(bad)}")
        norm = float(torch.nn.utils.clip_grad_norm_(self._weights, settings.clip))
        if self._numbers:
            norm = math.hypot(norm, float(torch.nn.utils.clip_grad_norm_(self._numbers, settings.clip)))
        if not math.isfinite(norm):
            raise guards.explain_gradient(self.steps + 1, self._logsnr(batch), self._network)
        self.images += self.batch
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate(self.images)
        self._optimizer.step()
        self.ema.update(list(self.module.parameters()), self.images, self.batch)
        return loss, norm

    def _backward(self, part: Batch, sync: bool) -> Tensor:
        """Add the gradient of these samples' share of the mean over the batch; their losses (b,)."""
        shared = self._shared
        if isinstance(shared, DistributedDataParallel):
            shared.require_backward_grad_sync = sync
        losses: Tensor = shared(part)
        # Processes average their gradients, of which each is to be a part of the sum.
        torch.autograd.backward(losses.sum() * (self._world.size / self.batch))
        return losses.detach()

    def _explain(self, part: Batch, losses: Tensor) -> str:
        return guards.explain_loss(
            losses,
            part.x_0,
            self._samples[part.samples.cpu()],
            self._logsnr(part),
            self._network,
            lambda: self._losses(part),
        )

    def _told(self, bad: str) -> str:
        told = self._world.tell(bad)
        return "; ".join(f"process {rank}: {text}" if len(told) > 1 else text for rank, text in enumerate(told) if text)

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

        Raises NonFiniteError for weights that are not finite.
        """
        for name, p in self.module.named_parameters():
            if not p.isfinite().all():
                raise guards.NonFiniteError(f"non-finite weights at step {self.steps}; first bad layer: {name}")
        return {
            "weights": self.module.state_dict(),
            "averages": self.ema.state(),
            "objective": self.loss.state_dict(),
            "optimizer": optimizer_tensors(self._optimizer),
        }

    def fill(self, parts: dict[str, dict[str, Tensor]], images: int, rewinds: int, place: Path) -> None:
        """The inverse of ``parts``, some of which it keeps, after so many images and rewinds.

        Raises InputError that names a file of ``place`` where tensors do not fit.
        """
        for name, module in {"weights": self.module, "objective": self.loss}.items():
            fill(module, parts.get(name, {}), place / f"{name}.safetensors")
        self.ema.load(parts.get("averages", {}), self.module, place / "averages.safetensors")
        load_optimizer(self._optimizer, parts.get("optimizer", {}))
        self.images, self.rewinds = images, rewinds

    def prepare(self) -> Execution:
        """How steps are computed, found by trial the first time. Costs a few seconds at most."""
        if self.execution is None:
            key = fingerprint([list(self.model.spec.shape), self.batch, [list(p.shape) for p in self._weights]])
            way = choose(self._ways(), self._trial, key) if self._world.leads else self._ways()[0]
            told = [way.threads, way.precision, self._part_that_fits(way)]
            threads, precision, part = json.loads(self._world.tell(json.dumps(told))[0])
            self.execute(Execution(threads, precision), part)
        assert self.execution is not None
        return self.execution

    def forecast(self) -> tuple[float, float]:
        """(Seconds to a step, bytes of memory beside the data), from a few samples."""
        way = self.prepare()
        rows = self._rows_of_a_trial
        self._trial(way)
        started = time.perf_counter()
        self._trial(way)
        seconds = (time.perf_counter() - started) / rows * self.batch / self._world.size
        return seconds, self._bytes(min(self._share, self.micro_batch or self._share), way)

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
        self._losses.precision = way.dtype
        if self._kept is None:
            counts = (1, min(3, self.batch))
            self._kept = memory.by_sample(self._losses_of_first, counts)
        whatever, each = self._kept
        return memory.fixed(self._weights) + whatever + samples * each

    @property
    def _share(self) -> int:
        """The most samples of a batch that a process has."""
        return -(-self.batch // self._world.size)

    @property
    def _rows_of_a_trial(self) -> int:
        return min(self._share, 8 * max(1, 4096 // self.data.values[0].numel()))

    def execute(self, way: Execution, micro_batch: int | None) -> None:
        """Compute the steps to come in this ``way``, so many samples at a time, or all."""
        torch.set_num_threads(way.threads)
        self._losses.precision = way.dtype
        self.execution, self.micro_batch = way, micro_batch

    def bits(self) -> dict[str, Any]:
        """What the last bits of a run depend on, beside its recipe and its data."""
        return {
            "torch": torch.__version__,
            **asdict(self.prepare()),
            "micro_batch": self.micro_batch,
            "processes": self._world.size,
            "device": self.device.type,
        }

    def as_before(self, bits: dict[str, Any]) -> None:
        """Compute steps as they were computed, where nothing else is asked for and this machine can."""
        given, threads, precision = self._compute, bits.get("threads"), bits.get("precision")
        if given.threads or not isinstance(threads, int) or not 0 < threads <= torch.get_num_threads():
            threads = given.threads or torch.get_num_threads()
        if given.precision != "auto" or precision not in ("float32", "bfloat16"):
            precision = "float32" if given.precision == "auto" else given.precision
        part = given.micro_batch or bits.get("micro_batch")
        self.execute(Execution(threads, precision), part if isinstance(part, int) and part > 0 else None)

    def _ways(self) -> list[Execution]:
        """What may be chosen from: the single way on a GPU, and that of options that leave no choice."""
        given, most = self._compute, torch.get_num_threads()
        cpu = self.device.type == "cpu"
        precisions: list[Precision] = ["float32"]
        if given.precision != "auto":
            precisions = [given.precision]
        elif isinstance(self._network, UNet) and not self.loss.differentiates:
            precisions = ["float32", "bfloat16"] if cpu else ["bfloat16"]
        threads = [given.threads] if given.threads else sorted({1, most} if cpu and self._world.size == 1 else {most})
        return [Execution(count, precision) for count in threads for precision in precisions]

    def _trial(self, way: Execution) -> None:
        """What a step computes of a few samples, without its effect."""
        self._losses.precision = way.dtype
        torch.autograd.backward(self._losses_of_first(self._rows_of_a_trial).mean())
        self._optimizer.zero_grad(set_to_none=True)


def fingerprint(data: Any) -> str:
    """The SHA-256 of plain data, in hexadecimal."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
