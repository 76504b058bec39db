"""The optimiser of a run, its learning rate, and its state as named tensors."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sfumato.errors import InputError
from sfumato.recipes.recipe import TrainingSection

from .schedule import Schedule
from .shards import like


def adamw(
    weights: Sequence[nn.Parameter], numbers: Sequence[nn.Parameter], rate: float, decay: float
) -> torch.optim.AdamW:
    """AdamW on the ``weights`` of a network, and without decay on the ``numbers`` that are learned with it.

    References:
        Loshchilov and Hutter 2019.
    """
    groups = [
        {"params": weights, "weight_decay": decay},
        {"params": numbers, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=rate, betas=(0.9, 0.99), fused=True)


def learning_rate(settings: TrainingSection, images: int, rewinds: int, schedule: Schedule) -> float:
    """The learning rate of the step that brings the count to ``images``.

    Linear over the warm-up, constant, then proportional to ``1 / sqrt(images)`` after ``decay_after``; halved by every
    rewind; multiplied by the factor of ``schedule``, which falls over the cooldown.

    Arguments:
        settings: the resolved recipe's.
        images: images seen after the step.
        rewinds: of the run.
        schedule: when training ends, as far as that is known.

    References:
        Karras et al. 2024, eq. 67.
    """
    assert settings.learning_rate is not None
    assert settings.warmup is not None
    rising = images / max(settings.warmup, 1)
    falling = math.sqrt(settings.decay_after / images)
    return settings.learning_rate * min(1.0, rising, falling) * schedule.factor(settings, images) * 0.5**rewinds


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser as named tensors, "index.field"; its settings belong to the recipe."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": torch.as_tensor(value) for i, fields in state.items() for name, value in fields.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Set the state of an optimiser, made with the recipe's settings, to what ``optimizer_tensors`` returned.

    Raises:
        InputError: a tensor that fits no parameter.
    """
    own = {str(i): p for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        i, _, name = key.partition(".")
        if i not in own or value.shape not in (own[i].shape, ()):
            raise InputError(
                f"optimizer.safetensors: '{key}' {tuple(value.shape)} fits no parameter; it belongs to another network "
                "than that of config.json, restore the file that belongs to it"
            )
        state.setdefault(int(i), {})[name] = like(value, own[i])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
