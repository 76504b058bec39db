"""The assignment problem."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def assign(cost: Float[Tensor, "n n"]) -> Int64[Tensor, "n"]:
    """The permutation p with the least ``sum_i cost[i, p_i]``, exactly (Crouse 2016, by scipy), on cost's device."""
    from scipy.optimize import linear_sum_assignment

    _, chosen = linear_sum_assignment(cost.detach().cpu().numpy())
    return torch.from_numpy(chosen).long().to(cost.device)
