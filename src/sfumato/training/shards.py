"""Networks that do not fit on one device: each process keeps a shard of every weight and of all that goes with it.

FSDP2 (``torch.distributed.fsdp.fully_shard``): process r of N holds the r-th of N slices of a weight, of its gradient,
of the optimiser's moments and of the averages. The weights of one unit at a time are gathered, and released after it is
computed; gradients are averaged into the shards. (Zhao et al. 2023, "PyTorch FSDP: experiences on scaling fully sharded
data parallel".)
"""

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn


def shard(network: nn.Module, units: Sequence[nn.Module], device: torch.device) -> None:
    """Keep this process's shard of ``network``, which is the same on all processes, on ``device``.

    ``units`` of the network are gathered one at a time; what is in none of them is gathered as one more unit.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in (*units, network):
        # Explicitly, because the outermost module would otherwise keep its weights gathered while a step changes them.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def synchronise(network: nn.Module, gradients: bool) -> None:
    """Whether the next backward pass averages gradients over the processes; if not, each process adds up its own."""
    network.set_requires_gradient_sync(gradients)  # type: ignore[operator]


def sharded(tensor: Tensor) -> TypeGuard[Any]:
    """Whether ``tensor`` is a shard."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """The shard of this process, or a whole tensor itself; the memory is shared."""
    own: Tensor = tensor.to_local() if sharded(tensor) else tensor
    return own


def whole(tensor: Tensor) -> Tensor:
    """All shards together, on every process; all processes call it."""
    full: Tensor = tensor.full_tensor() if sharded(tensor) else tensor
    return full


def like(full: Tensor, own: Tensor) -> Tensor:
    """The values of ``full`` in the memory format and the sharding of ``own``; ``full`` itself if the shapes differ."""
    if full.shape != own.shape:
        return full
    if not sharded(own):
        return torch.empty_like(own).copy_(full)
    from torch.distributed.tensor import DTensor

    mesh = own.device_mesh
    each = -(-len(full) // mesh.size())  # as torch.chunk splits rows
    first = min(each * mesh.get_local_rank(), len(full))
    rows = full[first : first + each].to(own.device)
    return DTensor.from_local(rows, mesh, own.placements, shape=own.shape, stride=own.stride())
