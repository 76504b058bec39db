"""The processes that work together, and what they tell each other.

Training, sampling or measuring on N processes is the same on one: process r takes rows ``B r / N .. B (r + 1) / N`` of
each batch, every random number belongs to a sample and not to a process, and sums over the batch are sums over
processes. What torchrun set in the environment says who is who; without it there is one process, and nothing below
communicates.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from sfumato.errors import FailedError, InputError

TIMEOUT = 300.0  # seconds until a process that does not answer is taken for lost


@dataclass(frozen=True)
class World:
    """Process ``rank`` of ``size``. ``group`` is their name to torch, None for all that have joined."""

    rank: int = 0
    size: int = 1
    timeout: float = TIMEOUT
    group: "dist.ProcessGroup | None" = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes, draws and speaks for all."""
        return self.rank == 0

    def rows(self, count: int) -> tuple[int, int]:
        """The part (first, last + 1) of ``count`` rows that is this process's."""
        return count * self.rank // self.size, count * (self.rank + 1) // self.size

    def separate_group(self) -> "World":
        """The same processes, to be talked to from another thread than the one that talks to these."""
        if self.size == 1:
            return self
        group = dist.new_group(backend="gloo", timeout=timedelta(seconds=self.timeout))
        return World(self.rank, self.size, self.timeout, group)

    def sum(self, x: Tensor) -> Tensor:
        """``x`` itself, summed over the processes where it is, without waiting for a GPU."""
        if self.size > 1:
            dist.all_reduce(x, group=self.group)
        return x

    def max(self, *numbers: float) -> list[float]:
        """The greatest of each over the processes, the same on all of them."""
        if self.size == 1:
            return list(numbers)
        held = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(held, op=dist.ReduceOp.MAX, group=self.group)
        return [float(x) for x in held]

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """All ``count`` rows on every process, in order, on the CPU: each brings those of ``rows(count)``."""
        if self.size == 1:
            return rows.cpu()
        # Every process sends as many rows as the longest part has: gloo gathers equal shapes only.
        longest = -(-count // self.size)
        padded = torch.zeros((longest, *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(rows)] = rows.cpu()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, group=self.group)
        ends = [World(rank, self.size).rows(count) for rank in range(self.size)]
        return torch.cat([part[: last - first] for part, (first, last) in zip(parts, ends, strict=True)])

    def shared(self, count: int, make: Callable[[int, int], Tensor]) -> Tensor:
        """``make(first, last)`` of all ``count`` rows, in order, on every process, on the CPU: each makes its part.

        Fewer rows than processes are made by each of them.
        """
        if count < self.size:
            return make(0, count).cpu()
        return self.gather(make(*self.rows(count)), count)

    def gather_text(self, text: str) -> list[str]:
        """What every process has to say, in order, on all of them."""
        if self.size == 1:
            return [text]
        data = torch.frombuffer(bytearray(text.encode() + b"\n"), dtype=torch.uint8)
        longest = int(self.max(float(len(data)))[0])
        padded = torch.zeros(self.size, longest, dtype=torch.uint8)
        padded[self.rank, : len(data)] = data
        dist.all_reduce(padded, group=self.group)
        return [bytes(row.tolist()).decode().rpartition("\n")[0] for row in padded]

    @contextmanager
    def raise_together(self) -> Iterator[None]:
        """What one process is refused within (InputError) is refused to all, or the others would wait for it.

        All of them come to its end; within, they do not talk to each other.
        """
        refused: InputError | None = None
        try:
            yield
        except InputError as error:
            if self.size == 1:
                raise
            refused = error
        for text in self.gather_text(str(refused or "")):
            if text:
                raise refused or InputError(text)

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.size > 1:
            dist.barrier(group=self.group)


class LostProcessError(FailedError):
    """One of the processes that worked together is gone, and with it what the others were waiting for."""


ALONE = World()


@contextmanager
def joined(device: torch.device, timeout: float = TIMEOUT) -> Iterator[World]:
    """The world of the environment that torchrun made, joined for as long as the context lasts.

    Small numbers travel on the CPU (gloo), gradients on the device (nccl for a GPU). Raises LostProcessError when
    another process has ended, or does not answer for ``timeout`` seconds.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    world = World(dist.get_rank(), size, timeout)
    try:
        yield world
        world.wait()  # a group that one process leaves early is torn from under the others
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise LostProcessError(
            f"process {world.rank} of {size} has lost another, which ended or was silent for {timeout:g} s; start all "
            "again, a training with --resume, as its last checkpoint is whole "
            f"({str(error).splitlines()[0]})"
        ) from error
    finally:
        dist.destroy_process_group()
