"""Nearest training samples: the simplest check that a model has learned its data instead of copying it."""

import torch
from torch import Tensor


def nearest(queries: Tensor, references: Tensor, block: int = 4096) -> tuple[Tensor, Tensor]:
    """The nearest reference of each query.

    Arguments:
        queries: samples (B, *shape) in model units.
        references: samples (N, *shape) in model units.
        block: references that are compared at once.

    Returns:
        Distances (B,), root-mean-square per number of a sample, and indices (B,) of the references.
    """
    flat = queries.flatten(1)
    best = torch.full((len(flat),), float("inf"), dtype=flat.dtype, device=flat.device)
    index = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
    for start in range(0, len(references), block):
        others = references[start : start + block].flatten(1).to(flat)
        # By differences: the faster |a|^2 + |b|^2 - 2 a b rounds, and would not recognise a copy.
        distances = torch.cdist(flat, others, compute_mode="donot_use_mm_for_euclid_dist")
        value, at = distances.min(dim=1)
        closer = value < best
        best, index = torch.where(closer, value, best), torch.where(closer, at + start, index)
    return best / flat.shape[1] ** 0.5, index
