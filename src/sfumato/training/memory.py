"""An estimate of the memory that a step will need."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

FILL = 0.7  # the fraction of the free memory to use: the estimate leaves out the workspace of convolutions

# Bytes per learned number: the weight, its gradient, AdamW's two moments and three averages, in float32.
PER_PARAMETER = 4 * (1 + 1 + 2 + 3)


def kept_for_backward(losses: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps while ``losses`` are computed, each storage once and without parameters."""
    seen: dict[int, int] = {}
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        # Detached: an output that its own node holds would never be freed. A loss that differentiates the network
        # unpacks it, and autograd gives it its history again.
        kept = tensor.detach()
        if not (tensor if tensor._base is None else tensor._base).is_leaf:  # a view of a parameter is one
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            held.append(kept)  # or its address would be used again
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        losses()
    return sum(seen.values())


def by_sample(losses: Callable[[int], Tensor], counts: tuple[int, int]) -> tuple[float, float]:
    """Bytes kept for the backward pass, (constant, per sample), from ``losses`` of two counts of samples."""
    fewer, more = (kept_for_backward(partial(losses, count)) for count in counts)
    slope = max((more - fewer) / max(counts[1] - counts[0], 1), 0.0)
    return max(fewer - counts[0] * slope, 0.0), slope


def fixed(parameters: Iterable[Tensor]) -> int:
    """Bytes that training takes for any batch."""
    return PER_PARAMETER * sum(p.numel() for p in parameters)


def free(device: torch.device) -> int | None:
    """Free bytes on ``device`` for this process, one of several on this machine; None if unknown."""
    if device.type == "cuda":  # the driver counts memory that torch holds without using it as taken
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    found = []
    with suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # a container's own limit, "max" if there is none
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(found) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if found else None


def fitting_samples(batch: int, needed: Callable[[int], float], free_bytes: int | None) -> int:
    """The largest of batch, batch / 2, batch / 4, ... (rounded up) that ``FILL`` of the free memory holds."""
    size = batch
    while free_bytes is not None and size > 1 and needed(size) > FILL * free_bytes:
        size = -(-size // 2)
    return size
