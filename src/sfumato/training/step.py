"""A training step.

    batch        the samples, times and noise of the next B images                          (draws)
    gradient     of the mean loss over the batch, one micro-batch after another, summed over the processes
    clipping     of its norm: the network's, and that of the other learned numbers
    update       AdamW; from the first number that is not finite on, it changes nothing
    averages     of the weights move towards them                                           (ema)

A GPU is not waited for: ``launch`` gives it the work, and ``collect`` reads what came out of several steps.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sfumato.core import PairedNoise, SeededNoise
from sfumato.networks import Dropout
from sfumato.numerics import random
from sfumato.objectives import Batch, Loss
from sfumato.recipes.recipe import TrainingSection
from sfumato.world import World

from . import nonfinite, shards
from .draws import Draws
from .optimizer import learning_rate
from .state import State


class Losses(nn.Module):
    """``losses (b,) = loss(module, batch)``: one module with all that learns, for wrappers of modules.

    Arguments:
        module: the model's.
        loss: the objective.
        precision: type of the products inside the network; weights and everything else keep theirs.
    """

    def __init__(self, module: nn.Module, loss: Loss[Any], precision: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self.loss = loss
        self.precision = precision
        self._dropouts = [layer for layer in module.modules() if isinstance(layer, Dropout)]

    def forward(self, batch: Batch) -> Tensor:
        assert isinstance(batch.noise, (SeededNoise, PairedNoise))  # as Draws makes it
        for number, dropout in enumerate(self._dropouts):
            dropout.keys = random.keys(random.derive("dropout", number), batch.noise.keys)
        device = batch.x_0.device.type
        with torch.autocast(device, self.precision, enabled=self.precision != torch.float32):
            losses: Tensor = self.loss(self.module, batch)
        return losses.float()


class Step:
    """Makes the steps of a run, as one process of a ``world``.

    Arguments:
        state: what the steps move.
        draws: the batches.
        numbers: the indices by which messages call the training samples.
        settings: the recipe's.
        batch: samples per step, over all processes.
        world: the processes that train together.
    """

    def __init__(
        self,
        state: State,
        draws: Draws,
        numbers: Int64[Tensor, "n"],
        settings: TrainingSection,
        batch: int,
        world: World,
    ) -> None:
        self.state = state
        self.draws = draws
        self.losses = Losses(state.module, state.loss, torch.float32)
        self.batch = batch
        self.micro_batch: int | None = None
        self.uncollected: list[tuple[int, Tensor, Tensor]] = []  # (images before, loss, gradient norm) per step
        self._numbers = numbers
        self._settings = settings
        self._world = world

    @property
    def rows(self) -> int:
        """The most samples of a batch that a process has."""
        return -(-self.batch // self._world.size)

    # ------------------------------------------------------------------------------------------------------- the step

    def launch(self) -> None:
        """Make one step, which a GPU is given to do and not waited for.

        From a loss or a gradient that is not finite on, the weights stay as they are until ``collect`` raises.
        """
        state, world = self.state, self._world
        batch = self._next_batch()
        self._clear_gradients()
        loss = torch.zeros((), dtype=torch.float64, device=state.device)
        for micro_batch, last in self._micro_batches(batch):
            loss += self._add_gradient(micro_batch, last).sum()  # gradients travel once, with the last ones
        loss = world.sum(loss) / self.batch
        norm = self._clip()
        nonfinite.flag(state.found_nonfinite, loss + norm)
        self.uncollected.append((state.images, loss, norm))
        state.images += self.batch
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(self._settings, state.images, state.rewinds, state.schedule)
        state.optimizer.step()
        state.ema.update(list(state.module.parameters()), state.images, self.batch)

    def collect(self) -> list[tuple[float, float]]:
        """(Loss, gradient norm before clipping) of each step since the last call, once they are made.

        Raises:
            NonFiniteError: on all processes, for the first step whose loss or gradient is not finite. The state is
                then the one before that step.
        """
        uncollected, self.uncollected = self.uncollected, []
        if not uncollected:
            return []
        found: list[list[float]] = torch.stack([torch.stack(numbers) for _, *numbers in uncollected]).tolist()
        for (images, _, _), (loss, norm) in zip(uncollected, found, strict=True):
            if not math.isfinite(loss + norm):
                self.state.images = images
                self.state.found_nonfinite.zero_()
                raise self._explain_gradient() if math.isfinite(loss) else self._explain_loss()
        return [(loss, norm) for loss, norm in found]

    def _next_batch(self) -> Batch:
        """The rows of this process."""
        return self.draws.batch(self.state.images, self.batch, self._world.rows(self.batch))

    def _clear_gradients(self) -> None:
        self.state.optimizer.zero_grad(set_to_none=True)
        for density in self.state.densities:
            density.forget()

    def _micro_batches(self, batch: Batch) -> Iterator[tuple[Batch, bool]]:
        """The micro-batches of this process, equally many on every process, and whether each is the last one."""
        count = min(-(-self.rows // (self.micro_batch or self.rows)), self.batch // self._world.size)
        for i in range(count):
            yield batch.rows(len(batch) * i // count, len(batch) * (i + 1) // count), i == count - 1

    def _add_gradient(self, micro_batch: Batch, sync: bool) -> Tensor:
        """Add the gradient of these samples' losses / B; ``sync`` sums over the processes. Returns the losses (b,)."""
        losses_of = self._distributed
        if isinstance(losses_of, DistributedDataParallel):
            losses_of.require_backward_grad_sync = sync
        elif self.state.sharded:
            shards.synchronise(self.state.network, sync)
        losses: Tensor = losses_of(micro_batch)
        # The processes' gradients are averaged, where their sum is wanted.
        torch.autograd.backward(losses.sum() * (self._world.size / self.batch))
        return losses.detach()

    @cached_property
    def _distributed(self) -> nn.Module:
        """The losses, whose gradients are averaged over the processes; made once the weights are where they stay."""
        if self._world.size == 1 or self.state.sharded:
            return self.losses
        distributed = DistributedDataParallel(self.losses, gradient_as_bucket_view=True)
        distributed.require_forward_param_sync = False  # buffers never change
        return distributed

    def _clip(self) -> Tensor:
        """Clip the gradients of the network and of the other learned numbers, each by itself.

        Returns the norm of the whole gradient before clipping, on the device.
        """
        state, world = self.state, self._world
        if state.sharded:  # which averages the network's alone
            for p in state.numbers:
                assert p.grad is not None
                world.sum(p.grad.div_(world.size))
        for density in state.densities:
            density.settle(world.sum)
        norms = [
            shards.whole(torch.nn.utils.clip_grad_norm_(parameters, self._settings.clip)).double()
            for parameters in (state.weights, state.numbers)
            if parameters
        ]
        norm: Tensor = torch.stack(norms).norm()
        return norm

    # -------------------------------------------------------------------------------- a step that is not finite: why

    def _explain_gradient(self) -> nonfinite.NonFiniteError:
        """What is wrong with the gradient of the next step; all processes compute it again to report it."""
        state, world, batch = self.state, self._world, self._next_batch()
        self._clear_gradients()
        for micro_batch, sync in self._micro_batches(batch):
            self._add_gradient(micro_batch, sync)
        found = int(world.max(float(nonfinite.last_bad_gradient(state.network)))[0])
        logsnr = self._logsnr(batch)
        if logsnr is not None:
            high, low = world.max(float(logsnr.max()), -float(logsnr.min()))
            logsnr = torch.tensor([-low, high])
        return nonfinite.explain_gradient(state.images // self.batch + 1, logsnr, state.network, found)

    def _explain_loss(self) -> nonfinite.NonFiniteError:
        """What is wrong with the losses of the next step; all processes compute it again to report it."""
        batch = self._next_batch()
        with torch.no_grad(), nonfinite.bad_layers(self.state.network) as layers:
            losses = torch.cat([self.losses(micro_batch) for micro_batch, _ in self._micro_batches(batch)])
        rows = self._world.rows(self.batch)
        numbers = self._numbers[self.draws.samples(self.state.images, self.batch, rows).cpu()]
        own = nonfinite.explain_losses(losses, batch.x_0, numbers, self._logsnr(batch), layers)
        return nonfinite.explain_loss(self.state.images // self.batch + 1, self._world.gather_text(own))

    def _logsnr(self, batch: Batch) -> Tensor | None:
        levels = self.state.loss.noise_levels(self.state.module, batch.uniform)
        return None if levels is None else levels[1]

    # ---------------------------------------------------------------------------------------------- without an effect

    def first_losses(self, count: int) -> Tensor:
        """The losses of the first ``count`` samples of the next batch, without an effect."""
        losses: Tensor = self.losses(self.draws.batch(self.state.images, self.batch, (0, count)))
        return losses

    def rehearse(self, count: int) -> None:
        """Compute what a step computes of the first ``count`` samples of the next batch, without an effect."""
        torch.autograd.backward(self.first_losses(count).mean())
        self.state.optimizer.zero_grad(set_to_none=True)
        if self.state.device.type == "cuda":
            torch.cuda.synchronize(self.state.device)
