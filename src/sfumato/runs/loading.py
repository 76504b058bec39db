"""Load the model of a run for work that only some kinds of model can do."""

import copy
from pathlib import Path

import torch

from sfumato import kinds
from sfumato.errors import InputError
from sfumato.model import Model
from sfumato.training.checkpoint import checkpoints
from sfumato.training.checkpoint import load as load_checkpoint
from sfumato.training.ema import WIDTHS

from .folder import RunFolder


def load_with_samplers(folder: str | Path, device: torch.device | str = "cpu") -> Model:
    """The model in ``folder``, which must have samplers to choose from.

    Raises:
        InputError: the folder holds no model, or one without samplers.
    """
    model = kinds.load(folder, device)
    model.require("sampler")
    assert isinstance(model, Model)  # the one kind with samplers
    return model


@torch.no_grad()
def load_early(folder: Path, device: torch.device | str = "cpu") -> Model:
    """The model of a run with its earliest weights: the widest average in the oldest checkpoint that is kept.

    Raises:
        InputError: as ``load_with_samplers``; there is no checkpoint, or one that is damaged or of another network.
    """
    model = load_with_samplers(folder, device)
    kept = checkpoints(RunFolder(folder).checkpoints)
    if not kept:
        raise InputError(f"{folder}: has no checkpoints with early weights; name another run to lead away from")
    tensors, start = load_checkpoint(kept[0])[0], f"{max(WIDTHS):g}/"
    averages = {
        name.removeprefix(start): x for name, x in tensors.get("averages", {}).items() if name.startswith(start)
    }
    module = copy.deepcopy(model.denoiser)
    own = dict(module.named_parameters())
    if own.keys() != averages.keys() or any(own[name].shape != averages[name].shape for name in own):
        raise InputError(f"{kept[0]}: is of another network than {folder}; name another run to lead away from")
    for name, weights in own.items():
        weights.copy_(averages[name])
    return model.with_module(module)
