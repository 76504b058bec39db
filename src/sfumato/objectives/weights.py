"""Weights w(level) on ``|eps - eps_hat|^2``.

Every pointwise loss of the field is one of these, whatever the network predicts (Kingma & Gao 2023, table 1). A weight
is a function of the level, given and returned in the level's shape; adding one is a function and a row in ``WEIGHTS``.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from sfumato.core import Level

Weight = Callable[[Level], Tensor]


def simple(level: Level) -> Tensor:
    """L_simple: the same weight everywhere, w = 1 (Ho et al. 2020, eq. 14)."""
    return torch.ones_like(level.alpha)


WEIGHTS: Mapping[str, Weight] = MappingProxyType({"simple": simple})
"""The weights that a recipe can name."""
