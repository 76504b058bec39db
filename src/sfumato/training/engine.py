"""What a run computes, without a folder, a budget or a record: a model, its data, and how steps are executed."""

from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from sfumato.data import Order, SampleSource
from sfumato.errors import InputError
from sfumato.generative_model import GenerativeModel
from sfumato.networks import Configurable
from sfumato.world import World

from . import shards
from .draws import Draws
from .execution import Compute, Execution, Layout
from .state import State
from .step import Step


class Engine:
    """Trains ``model`` on ``data``, on the device of the data, as one process of a ``world``.

    Arguments:
        model: the model; its module is trained in place.
        data: the training samples.
        numbers: the indices (N,) by which messages call the training samples.
        compute: what is required of the computation.
        world: the processes that train together.

    Raises:
        InputError: a batch smaller than the number of processes, or a requirement that the network cannot meet.
    """

    def __init__(
        self,
        model: GenerativeModel,
        data: SampleSource,
        numbers: Int64[Tensor, "n"],
        compute: Compute,
        world: World,
    ) -> None:
        settings = model.recipe.training
        self.model = model
        self.data = data
        self.compute = compute
        self.world = world
        self.batch = settings.batch_for(model.spec)
        if self.batch < world.size:
            raise InputError(
                f"training.batch: {self.batch} samples for {world.size} processes; give at least {world.size}"
            )
        self.loss = model.recipe.build_loss(model.spec).to(self.device)
        self.state = State(model, self.loss, self.device, world, compute.shard)
        order = Order(len(data), settings.seed)
        recipe = model.recipe
        self.draws = Draws(
            data, order, self.loss, settings.seed, settings.augment, recipe.condition, recipe.label_dropout
        )
        self._step = Step(self.state, self.draws, numbers, settings, self.batch, world)
        self._step.micro_batch = compute.micro_batch
        self.execution: Execution | None = None
        self.max_threads = torch.get_num_threads()
        self._layout: Layout = "channels_first"
        self._require(compute)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # batches have one shape

    def _require(self, compute: Compute) -> None:
        """Raise InputError for a requirement that the network cannot meet."""
        network = self.configurable
        if compute.gradient_checkpointing:
            if network is None:
                raise InputError("--gradient-checkpointing: for a U-Net or a DiT; this network is small, leave it out")
            network.configure(recompute=True)
        if compute.compile and (compute.shard or network is None):
            raise InputError("--compile: for a U-Net or a DiT that is not sharded; leave it out")
        if compute.shard and self.loss.differentiates:
            raise InputError("--shard: not for a loss that differentiates the network; leave it out")

    @property
    def device(self) -> torch.device:
        """Where the data is, and the module."""
        return self.data.device

    @property
    def network(self) -> nn.Module:
        """All that learns except a learned schedule: what takes the time and the memory."""
        return self.state.network

    @property
    def configurable(self) -> Configurable | None:
        """The network, if its execution can be chosen."""
        return self.network if isinstance(self.network, Configurable) else None

    @property
    def images(self) -> int:
        """Images seen so far."""
        return self.state.images

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self.images // self.batch

    @property
    def rows(self) -> int:
        """The most samples of a batch that a process has."""
        return self._step.rows

    @property
    def micro_batch(self) -> int | None:
        """Samples per forward pass; None for all that a process has."""
        return self._step.micro_batch

    # ---------------------------------------------------------------------------------------------------------- steps

    def step(self) -> tuple[float, float]:
        """Make one step. Returns (loss, gradient norm before clipping); raises as ``collect`` does."""
        self.launch_step()
        return self.collect()[-1]

    def launch_step(self) -> None:
        """Make one step, which a GPU is given to do and not waited for."""
        self._step.launch()

    def collect(self) -> list[tuple[float, float]]:
        """(Loss, gradient norm before clipping) of each step since the last call, once they are made.

        Raises:
            NonFiniteError: on all processes, for the first step whose loss or gradient is not finite. The state is
                then the one before that step.
        """
        return self._step.collect()

    def first_losses(self, count: int) -> Tensor:
        """The losses of the first ``count`` samples of the next batch, without an effect."""
        return self._step.first_losses(count)

    def rehearse(self, count: int) -> None:
        """Compute what a step computes of the first ``count`` samples of the next batch, without an effect."""
        self._step.rehearse(count)

    # ------------------------------------------------------------------------------------------------------ execution

    def apply(self, execution: Execution, micro_batch: int | None) -> None:
        """Compute the coming steps by ``execution``, ``micro_batch`` samples at a time (None for all)."""
        torch.set_num_threads(execution.threads)
        self.configure_network(execution)
        self.execution, self._step.micro_batch = execution, micro_batch

    def configure_network(self, execution: Execution) -> None:
        """Set up the network for ``execution``, all except its threads."""
        self._step.losses.precision = execution.dtype
        network = self.configurable
        if network is None:
            return
        lean = execution.lean_norms and not execution.compiled  # a compiler decides that by itself
        network.configure(attention=execution.attention, lean_norms=lean)
        if self.compute.shard:
            return
        if execution.layout != self._layout:
            self._lay_out(execution.layout)
        if execution.compiled != (self.network._compiled_call_impl is not None):
            self.network._compiled_call_impl = None
            if execution.compiled:
                self.network.compile()

    def _lay_out(self, layout: Layout) -> None:
        """Put weights, averages and the optimiser's moments into a memory format."""
        self._layout = layout
        state = self.state
        wanted = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        for module in (state.module, *state.ema.modules):
            module.to(memory_format=wanted)
        state.ema.moved()
        for p, moments in state.optimizer.state.items():  # the fused optimiser takes them number by number
            moments.update({name: shards.like(value, p.detach()) for name, value in moments.items()})

    def rounding(self) -> dict[str, Any]:
        """What the last bits of a run depend on besides its recipe and its data, once ``apply`` was called."""
        assert self.execution is not None
        return {
            "torch": torch.__version__,
            **asdict(self.execution),
            "micro_batch": self.micro_batch,
            "processes": self.world.size,
            "sharded": self.compute.shard,
            "device": self.device.type,
        }
