"""Nearest training samples: the plainest look at whether a model has learnt or copied."""

import torch
from torch import Tensor


def nearest(queries: Tensor, references: Tensor, block: int = 4096) -> tuple[Tensor, Tensor]:
    """(distances, indices), each (B,): for every query the nearest reference by root-mean-square difference a value.

    Both have shape (*, *shape), in model units. References are taken ``block`` at a time.
    """
    flat = queries.flatten(1)
    best = torch.full((len(flat),), float("inf"), dtype=flat.dtype, device=flat.device)
    index = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
    for start in range(0, len(references), block):
        others = references[start : start + block].flatten(1).to(flat)
        # By differences: |a|^2 + |b|^2 - 2 a b, the faster way, does not see a copy for its rounding.
        distances = torch.cdist(flat, others, compute_mode="donot_use_mm_for_euclid_dist")
        value, at = distances.min(dim=1)
        closer = value < best
        best, index = torch.where(closer, value, best), torch.where(closer, at + start, index)
    return best / flat.shape[1] ** 0.5, index
