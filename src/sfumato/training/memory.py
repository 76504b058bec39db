"""How much memory a step will take, before it takes it."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

SHARE = 0.7  # of the memory that is free, to be filled: the estimate knows nothing of a convolution's workspace

# Bytes a number that is learned: the weight, its gradient, AdamW's two moments and two averages, in float32.
PER_PARAMETER = 4 * (1 + 1 + 2 + 2)


def kept_for_backward(losses: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps while ``losses`` are computed, each storage once; parameters not counted."""
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not (tensor if tensor._base is None else tensor._base).is_leaf:  # a view of a parameter is one
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = losses()  # held, or storages would be freed and their addresses used again
    del result
    return sum(seen.values())


def by_sample(losses: Callable[[int], Tensor], counts: tuple[int, int]) -> tuple[float, float]:
    """Bytes kept for backward, (whatever the batch, for each sample), from ``losses`` of two counts of samples."""
    fewer, more = (kept_for_backward(partial(losses, count)) for count in counts)
    slope = max((more - fewer) / max(counts[1] - counts[0], 1), 0.0)
    return max(fewer - counts[0] * slope, 0.0), slope


def fixed(parameters: Iterable[Tensor]) -> int:
    """Bytes that training takes whatever the batch."""
    return PER_PARAMETER * sum(p.numel() for p in parameters)


def free(device: torch.device) -> int | None:
    """Bytes to be had on ``device``; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def part_that_fits(batch: int, needed: Callable[[int], float], free_bytes: int | None) -> int:
    """The largest of batch, batch / 2, batch / 4, ... (rounded up) that ``SHARE`` of the free memory holds."""
    size = batch
    while free_bytes is not None and size > 1 and needed(size) > SHARE * free_bytes:
        size = -(-size // 2)
    return size
