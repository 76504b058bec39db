"""What a run computes: steps, and the state that they move. Knows nothing of a folder, a budget or a record."""

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sfumato.data import Order, SampleSource
from sfumato.denoisers import NetworkDenoiser
from sfumato.errors import InputError
from sfumato.model import Model, fill
from sfumato.networks import UNet
from sfumato.numerics.density import Density
from sfumato.objectives import Batch
from sfumato.world import World

from . import nonfinite, shards
from .ema import EMA
from .execution import Compute, Execution, Layout
from .optimizer import adamw, load_optimizer, optimizer_tensors
from .step import Draws, Losses


class Engine:
    """Trains ``model`` on ``data``, on the device where that is, as one process of a ``world``.

    A step: images number ``seen .. seen + batch`` of an endless shuffled sequence, a time and a noise that belong to
    that number, the loss, AdamW with clipping and warm-up, the averages. ``samples`` are the numbers by which
    messages call those of the data. Raises InputError when the batch cannot be shared.
    """

    def __init__(
        self, model: Model, data: SampleSource, samples: Int64[Tensor, "n"], compute: Compute, world: World
    ) -> None:
        settings = model.recipe.training
        self._settings = settings
        self.compute = compute
        self.world = world
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
        self.weights = list(self.network.parameters())
        held = {id(p) for p in self.weights}
        # A learned schedule's numbers and loss-aware times: few, with gradients that are not to shrink the network's.
        self._numbers = [p for p in (*self.module.parameters(), *self.loss.parameters()) if id(p) not in held]
        self._densities = [m for m in (*self.module.modules(), *self.loss.modules()) if isinstance(m, Density)]
        self._optimizer = adamw(self.weights, self._numbers, settings.learning_rate, settings.weight_decay)
        self.losses = Losses(self.module, self.loss, torch.float32)
        self.execution: Execution | None = None
        self.most_threads = torch.get_num_threads()
        self.micro_batch = compute.micro_batch
        if compute.gradient_checkpointing:
            if not isinstance(self.network, UNet):
                raise InputError("--gradient-checkpointing: for a U-Net; this network is small, leave it out")
            self.network.recompute()
        if compute.compile and (compute.shard or not isinstance(self.network, UNet)):
            raise InputError("--compile: for a U-Net that is not sharded; leave it out")
        if compute.shard and self.loss.differentiates:
            raise InputError("--shard: not with a loss that differentiates the network; leave it out")
        self.unseen: list[tuple[int, Tensor, Tensor]] = []  # (images before, loss, norm) of steps not looked at
        self._optimizer.found_inf = self._bad = torch.zeros((), device=self.device)  # type: ignore[attr-defined]
        self._layout: Layout = "channels_first"
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # batches have one shape

    @property
    def device(self) -> torch.device:
        """Where the data is, and the module."""
        return self.data.device

    @property
    def network(self) -> nn.Module:
        """All that learns but for a learned schedule: what takes the time and the memory."""
        return self.module.network if isinstance(self.module, NetworkDenoiser) else self.module

    @cached_property
    def _shared(self) -> nn.Module:
        """The losses, their gradients averaged over the processes; made when the weights are where they stay."""
        if self.world.size == 1 or self.compute.shard:
            return self.losses
        shared = DistributedDataParallel(self.losses, gradient_as_bucket_view=True)
        shared.require_forward_param_sync = False  # buffers never change
        return shared

    def _shard(self) -> None:
        if self.world.size == 1:
            raise InputError("--shard: parts a network among processes; start several with torchrun")
        for module in (self.module, *self.ema.modules):
            if not isinstance(module, NetworkDenoiser):
                raise InputError("--shard: for the network of a diffusion model; a hierarchical VAE is small")
            shards.shard(module.network, self.device)

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self.images // self.batch

    @property
    def share(self) -> int:
        """The most samples of a batch that a process has."""
        return -(-self.batch // self.world.size)

    def step(self) -> tuple[float, float]:
        """One update. Returns (loss, norm of the gradient before clipping)."""
        self.queue()
        return self.look()[-1]

    def queue(self) -> None:
        """One update, which a GPU is given to do and not waited for.

        From a loss or a norm that is not finite on, weights stay as they are, until ``look`` tells of it.
        """
        batch = self.draws.batch(self.images, self.batch, self.world.rows(self.batch))
        self._optimizer.zero_grad(set_to_none=True)
        for density in self._densities:
            density.forget()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for part, last in self._parts(batch):
            loss += self._backward(part, last).sum()  # gradients travel once, with the last ones
        loss = self.world.sum(loss) / self.batch
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
        elif self.compute.shard:
            shards.synchronise(self.network, sync)
        losses: Tensor = shared(part)
        # Processes average their gradients, of which each is to be a part of the sum.
        torch.autograd.backward(losses.sum() * (self.world.size / self.batch))
        return losses.detach()

    def _clip(self) -> Tensor:
        """The norm of the whole gradient, from before its clipping, on the device.

        The network's gradient and that of the numbers beside it are clipped each by itself.
        """
        if self.compute.shard:  # which averages the network's alone
            for p in self._numbers:
                assert p.grad is not None
                self.world.sum(p.grad.div_(self.world.size))
        for density in self._densities:
            density.settle(self.world.sum)
        norms = [
            shards.whole(torch.nn.utils.clip_grad_norm_(parameters, self._settings.clip)).double()
            for parameters in (self.weights, self._numbers)
            if parameters
        ]
        norm: Tensor = torch.stack(norms).norm()
        return norm

    def _explained(self, loss: float) -> nonfinite.NonFiniteError:
        """What is wrong with the step at hand, which all processes compute once more to tell."""
        rows = self.world.rows(self.batch)
        batch = self.draws.batch(self.images, self.batch, rows)
        logsnr = self._logsnr(batch)
        if math.isfinite(loss):
            self._optimizer.zero_grad(set_to_none=True)
            for part, sync in self._parts(batch):
                self._backward(part, sync)
            found = int(self.world.max(float(nonfinite.last_bad_gradient(self.network)))[0])
            if logsnr is not None:
                high, low = self.world.max(float(logsnr.max()), -float(logsnr.min()))
                logsnr = torch.tensor([-low, high])
            return nonfinite.explain_gradient(self.steps + 1, logsnr, self.network, found)
        with torch.no_grad(), nonfinite.bad_layers(self.network) as layers:
            losses = torch.cat([self.losses(part) for part, _ in self._parts(batch)])
        told = self.world.gather_text(
            nonfinite.explain_losses(
                losses,
                batch.x_0,
                self._samples[self.draws.samples(self.images, self.batch, rows).cpu()],
                logsnr,
                layers,
            )
        )
        texts = [f"process {rank}: {text}" if len(told) > 1 else text for rank, text in enumerate(told) if text]
        return nonfinite.NonFiniteError(f"non-finite loss at step {self.steps + 1}: {'; '.join(texts)}")

    def losses_of_first(self, rows: int) -> Tensor:
        """The losses (rows,) of the first rows of the batch to come, without an effect."""
        losses: Tensor = self.losses(self.draws.batch(self.images, self.batch, (0, rows)))
        return losses

    def try_first(self, rows: int) -> None:
        """What a step computes of the first rows of the batch to come, to its end, without its effect."""
        torch.autograd.backward(self.losses_of_first(rows).mean())
        self._optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _parts(self, batch: Batch) -> Iterator[tuple[Batch, bool]]:
        """This process's rows in as many parts as every process has, and whether a part is the last one."""
        rows = len(batch.x_0)
        count = min(-(-self.share // (self.micro_batch or self.share)), self.batch // self.world.size)
        for i in range(count):
            yield batch.rows(rows * i // count, rows * (i + 1) // count), i == count - 1

    def _logsnr(self, batch: Batch) -> Tensor | None:
        levels = self.loss.noise_levels(self.module, batch.uniform)
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
        learned = (*self.module.named_parameters(), *self.loss.named_parameters())
        bad = [name for name, p in learned if not shards.local(p).isfinite().all()]
        if found := [name for name in self.world.gather_text(bad[0] if bad else "") if name]:
            raise nonfinite.NonFiniteError(f"non-finite weights at step {self.steps}; first bad layer: {found[0]}")
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
            if self.world.is_main or shards.sharded(tensor) or tensor.ndim == 0
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
        if not self.compute.shard:
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

    def execute(self, way: Execution, micro_batch: int | None) -> None:
        """Compute the steps to come in this ``way``, so many samples at a time, or all."""
        torch.set_num_threads(way.threads)
        self.take(way)
        self.execution, self.micro_batch = way, micro_batch

    def take(self, way: Execution) -> None:
        """Set the network up for a ``way``, but for its threads."""
        self.losses.precision = way.dtype
        if not isinstance(self.network, UNet):
            return
        self.network.spare(way.spares and not way.compiled)  # a compiler decides that by itself
        self.network.attend(fused=way.attention == "fused")
        if self.compute.shard:
            return
        if way.layout != self._layout:
            self._layout = way.layout
            wanted = torch.channels_last if way.layout == "channels_last" else torch.contiguous_format
            for module in (self.module, *self.ema.modules):
                module.to(memory_format=wanted)  # type: ignore[call-overload]
            self.ema.moved()
            for p, state in self._optimizer.state.items():  # which the fused optimiser takes number by number
                state.update({name: shards.like(value, p.detach()) for name, value in state.items()})
        if way.compiled != (self.network._compiled_call_impl is not None):
            self.network._compiled_call_impl = None
            if way.compiled:
                self.network.compile()

    def bits(self) -> dict[str, Any]:
        """What the last bits of a run depend on, beside its recipe and its data, once it is known."""
        assert self.execution is not None
        return {
            "torch": torch.__version__,
            **asdict(self.execution),
            "micro_batch": self.micro_batch,
            "processes": self.world.size,
            "sharded": self.compute.shard,
            "device": self.device.type,
        }


def fingerprint(data: Any) -> str:
    """The SHA-256 of plain data, in hexadecimal."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
