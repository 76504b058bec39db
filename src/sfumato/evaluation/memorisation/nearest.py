"""The nearest training points of many queries: found by matrix products, measured by differences."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_SPARE = 4  # more candidates than neighbours, because products round
_TOGETHER = 1024  # queries, so that their products with a block of references take about 100 MB


def several_nearest(
    queries: Float[Tensor, "n d"], references: Float[Tensor, "m d"], k: int, block: int = 8192
) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """The k nearest references of each query, or all of them where there are fewer.

    ``|a|^2 - 2 a b + |b|^2`` finds candidates fast, but would not recognise a copy. Their distances are then computed
    from ``a - b``, which is exactly 0 for one.

    Arguments:
        queries: points (n, d).
        references: points (m, d) of the same type.
        k: number of neighbours.
        block: references that are compared at once.

    Returns:
        Euclidean distances, ascending, and the numbers of the references.
    """
    centre, k = references.mean(0), min(k, len(references))  # less the mean, numbers are smaller and round less
    found = [_several_nearest(part, references, centre, k, block) for part in torch.split(queries, _TOGETHER)]
    return torch.cat([distances for distances, _ in found]), torch.cat([index for _, index in found])


def _several_nearest(queries: Tensor, references: Tensor, centre: Tensor, k: int, block: int) -> tuple[Tensor, Tensor]:
    moved = queries - centre
    best = torch.full((len(queries), 0), 0.0, dtype=queries.dtype)
    index = torch.zeros(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(references), block):
        others = references[start : start + block] - centre
        closeness = others.square().sum(1) - 2 * moved @ others.mT
        best = torch.cat((best, closeness), 1)
        numbers = torch.arange(start, start + len(others)).expand(len(queries), -1)
        index = torch.cat((index, numbers), 1)
        kept = best.topk(min(k + _SPARE, best.shape[1]), dim=1, largest=False).indices
        best, index = best.gather(1, kept), index.gather(1, kept)
    distances = torch.stack([(queries - references[column]).norm(dim=1) for column in index.unbind(1)], 1)
    order = distances.argsort(1)[:, :k]
    return distances.gather(1, order), index.gather(1, order)
