"""Load the model of a run for work that only some kinds of model can do."""

from pathlib import Path

import torch

from sfumato import kinds
from sfumato.model import Model


def load_with_samplers(folder: str | Path, device: torch.device | str = "cpu") -> Model:
    """The model in ``folder``, which must have samplers to choose from.

    Raises:
        InputError: the folder holds no model, or one without samplers.
    """
    model = kinds.load(folder, device)
    model.require("sampler")
    assert isinstance(model, Model)  # the one kind with samplers
    return model
