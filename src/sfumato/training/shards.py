"""Networks that do not fit on one device: each process keeps a part of every weight, and of all that goes with it.

FSDP2 (``torch.distributed.fsdp.fully_shard``): process r of N holds rows r of N of a weight, of its gradient, of the
optimiser's moments and of the averages. The weights of one block at a time are gathered where that block is computed,
and let go after it; gradients are averaged into the parts. (Zhao et al. 2023, "PyTorch FSDP: experiences on scaling
fully sharded data parallel".)
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
        # Asked for, as the outermost module otherwise keeps gathered what the next step changes.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def synchronise(network: nn.Module, gradients: bool) -> None:
    """Whether the next backward pass averages gradients over the processes, or each collects its own."""
    network.set_requires_gradient_sync(gradients)  # type: ignore[operator]


def sharded(tensor: Tensor) -> TypeGuard[Any]:
    """Whether ``tensor`` is in parts."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """This process's part, or the whole where there are none; the memory is shared."""
    part: Tensor = tensor.to_local() if sharded(tensor) else tensor
    return part


def whole(tensor: Tensor) -> Tensor:
    """All parts put together, on every process; all of them call it."""
    full: Tensor = tensor.full_tensor() if sharded(tensor) else tensor
    return full


def like(full: Tensor, own: Tensor) -> Tensor:
    """Of ``full`` what corresponds to ``own``, laid out and in parts as that is; as it is where the shapes differ."""
    if full.shape != own.shape:
        return full
    if not sharded(own):
        return torch.empty_like(own).copy_(full)
    from torch.distributed.tensor import DTensor

    mesh = own.device_mesh
    each = -(-len(full) // mesh.size())  # as torch.chunk parts rows
    first = min(each * mesh.get_local_rank(), len(full))
    rows = full[first : first + each].to(own.device)
    return DTensor.from_local(rows, mesh, own.placements, shape=own.shape, stride=own.stride())
