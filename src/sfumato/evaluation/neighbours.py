"""Nearest training samples: the simplest check that a model has learned its data instead of copying it."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

CANDIDATES = 8  # references of a block that are compared exactly
TOGETHER = 256  # queries at once


def nearest(
    queries: Float[Tensor, "b *s"], references: Float[Tensor, "n *s"], block: int = 4096
) -> tuple[Float[Tensor, "b"], Int64[Tensor, "b"]]:
    """The nearest reference of each query.

    Candidates are found by ``|r|^2 - 2 q.r``, a product of matrices. It rounds, and would not recognise a copy, so the
    candidates are compared by differences.

    Arguments:
        queries: samples (B, *shape) in model units.
        references: samples (N, *shape) in model units.
        block: references that are compared at once.

    Returns:
        Distances (B,), root-mean-square per number of a sample, and indices (B,) of the references.
    """
    found = [_nearest(part, references, block) for part in torch.split(queries.flatten(1), TOGETHER)]
    return torch.cat([best for best, _ in found]), torch.cat([index for _, index in found])


def _nearest(flat: Tensor, references: Tensor, block: int) -> tuple[Tensor, Tensor]:
    best = torch.full((len(flat),), float("inf"), dtype=flat.dtype, device=flat.device)
    index = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
    for start in range(0, len(references), block):
        others = references[start : start + block].flatten(1).to(flat)
        centre = others.mean(0)  # distances stay, and rounding is less
        products = others.sub(centre).square().sum(1) - 2 * (flat - centre) @ (others - centre).mT
        near = products.topk(min(CANDIDATES, len(others)), largest=False).indices
        value, which = (flat[:, None] - others[near]).square().sum(-1).min(1)
        at = near.gather(1, which[:, None])[:, 0]
        closer = value < best
        best, index = torch.where(closer, value, best), torch.where(closer, at + start, index)
    return (best / flat.shape[1]).sqrt(), index
