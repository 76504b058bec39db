"""What a run moves: the weights, their averages, the objective's numbers, the optimiser and two counters.

Together they are a checkpoint: ``tensors`` takes them out, ``load`` puts them back.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.errors import InputError
from sfumato.generative_model import GenerativeModel
from sfumato.model_folder import fill
from sfumato.networks import Configurable, network_of
from sfumato.numerics.density import Density
from sfumato.objectives import Loss
from sfumato.world import World

from . import shards
from .ema import EMA
from .nonfinite import NonFiniteError
from .optimizer import adamw, load_optimizer, optimizer_tensors
from .schedule import Schedule

Tensors = dict[str, dict[str, Tensor]]
"""Named tensors by the file of a checkpoint that holds them: "weights", "averages", "objective", "optimizer"."""


class State:
    """The state of a run at ``images`` images seen and after ``rewinds`` rewinds, with its ``schedule``.

    Arguments:
        model: the model to train; its module is trained in place.
        loss: the objective, on the device of the data.
        device: where the data is; the module moves there.
        world: the processes that train together.
        shard: split the network's weights among the processes.

    Raises:
        InputError: a network that cannot be sharded.
    """

    def __init__(
        self, model: GenerativeModel, loss: Loss[Any], device: torch.device, world: World, shard: bool
    ) -> None:
        self.model = model
        self.loss = loss
        self.device = device
        self.world = world
        self.sharded = shard
        self.images = 0
        self.rewinds = 0
        self.schedule = Schedule()
        self.module: Any = model.module.train()
        self.ema: EMA[Any] = EMA(self.module)
        if shard:
            self._shard()
        for module in (self.module, *self.ema.modules):
            module.to(device)
        self.weights = list(self.network.parameters())
        in_network = {id(p) for p in self.weights}
        # A learned schedule and loss-aware times: few numbers, whose gradients must not shrink the network's.
        self.numbers = [p for p in (*self.module.parameters(), *loss.parameters()) if id(p) not in in_network]
        self.densities = [m for m in (*self.module.modules(), *loss.modules()) if isinstance(m, Density)]
        settings = model.recipe.training
        assert settings.learning_rate is not None
        self.optimizer = adamw(self.weights, self.numbers, settings.learning_rate, settings.weight_decay)
        # The fused optimiser changes nothing while this is 1.
        self.optimizer.found_inf = self.found_nonfinite = torch.zeros((), device=device)  # type: ignore[attr-defined]

    @property
    def network(self) -> nn.Module:
        """All that learns except a learned schedule."""
        return network_of(self.module)

    def _shard(self) -> None:
        if self.world.size == 1:
            raise InputError("--shard: splits a network among processes; start several with torchrun")
        for module in (self.module, *self.ema.modules):
            network = network_of(module)
            if network is module:
                raise InputError("--shard: for the network of a diffusion model; a hierarchical VAE is small")
            shards.shard(network, network.units() if isinstance(network, Configurable) else [], self.device)

    def tensors(self) -> Tensors:
        """The tensors of a checkpoint: all that the next step changes.

        Where the network is sharded, these are the shards of this process; whole tensors are in the first one's only.

        Raises:
            NonFiniteError: on all processes, for weights that are not finite.
        """
        learned = (*self.module.named_parameters(), *self.loss.named_parameters())
        bad = [name for name, p in learned if not shards.local(p).isfinite().all()]
        if found := [name for name in self.world.gather_text(bad[0] if bad else "") if name]:
            batch = self.model.recipe.training.batch_for(self.model.spec)
            raise NonFiniteError(f"non-finite weights at step {self.images // batch}; first bad layer: {found[0]}")
        return {
            "weights": self._own(self.module.state_dict()),
            "averages": self._own(self.ema.state()),
            "objective": self._own(self.loss.state_dict()),
            "optimizer": self._own(optimizer_tensors(self.optimizer)),
        }

    def _own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What this process writes."""
        return {
            name: shards.local(tensor)
            for name, tensor in tensors.items()
            if self.world.is_main or shards.sharded(tensor) or tensor.ndim == 0
        }

    def load(self, tensors: Tensors, images: int, rewinds: int, schedule: Schedule, checkpoint: Path) -> None:
        """Set the state to ``tensors``, some of which it keeps, after this many images and rewinds.

        Raises:
            InputError: tensors that do not fit; the message names a file of ``checkpoint``.
        """
        for name, module in {"weights": self.module, "objective": self.loss}.items():
            own, given = module.state_dict(), tensors.get(name, {})
            fitting = {key: shards.like(value, own[key]) if key in own else value for key, value in given.items()}
            fill(module, fitting, checkpoint / f"{name}.safetensors")
        self.ema.load(tensors.get("averages", {}), self.module, checkpoint / "averages.safetensors")
        load_optimizer(self.optimizer, tensors.get("optimizer", {}))
        self.images, self.rewinds, self.schedule = images, rewinds, schedule

    def averages(self) -> dict[str, Tensor]:
        """``EMA.state`` with every tensor whole; all processes call it."""
        return {name: shards.whole(tensor) for name, tensor in self.ema.state().items()}

    def averaged_weights(self) -> dict[str, Tensor]:
        """The weights of the longest average, whole, copied to the CPU; all processes call it."""
        state = self.ema.modules[-1].state_dict()
        return {name: shards.whole(tensor).detach().to("cpu", copy=True) for name, tensor in state.items()}

    def averaged_model(self) -> GenerativeModel:
        """A model with its own copy of the longest average, whole; all processes call it."""
        if not self.sharded:
            module = copy.deepcopy(self.ema.modules[-1])
            module.to(memory_format=torch.contiguous_format)
            return self.model.with_module(module)
        model = self.model.fresh(self.model.recipe, self.model.spec)
        model.module.load_state_dict(self.averaged_weights())
        model.module.to(self.device).eval().requires_grad_(False)
        return model
