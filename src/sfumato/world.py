"""The processes that work together, and how they communicate.

Training, sampling and measuring on N processes give the results of one: process r takes rows
``B r / N .. B (r + 1) / N`` of each batch, every random number belongs to a sample and not to a process, and sums over
the batch are sums over processes. The environment that torchrun sets gives rank and size; without it there is one
process, and nothing below communicates.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from sfumato.errors import DiskFullError, FailedError, InputError

TIMEOUT = 300.0  # seconds without an answer after which a process counts as lost


@dataclass(frozen=True)
class World:
    """This process, and the processes it works with.

    Arguments:
        rank: number of this process, from 0.
        size: number of processes.
        timeout: seconds without an answer after which a process counts as lost.
        group: torch's process group; None is the group of all processes.
    """

    rank: int = 0
    size: int = 1
    timeout: float = TIMEOUT
    group: "dist.ProcessGroup | None" = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports for all of them."""
        return self.rank == 0

    def rows(self, count: int) -> tuple[int, int]:
        """The rows (first, last + 1) of ``count`` that belong to this process."""
        return count * self.rank // self.size, count * (self.rank + 1) // self.size

    def separate_group(self) -> "World":
        """The same processes in a group of their own, for communication from another thread."""
        if self.size == 1:
            return self
        group = dist.new_group(backend="gloo", timeout=timedelta(seconds=self.timeout))
        return World(self.rank, self.size, self.timeout, group)

    def sum(self, x: Tensor) -> Tensor:
        """Sum ``x`` over the processes in place, without waiting for a GPU, and return it."""
        if self.size > 1:
            dist.all_reduce(x, group=self.group)
        return x

    def max(self, *numbers: float) -> list[float]:
        """The maximum of each number over the processes, the same on all of them."""
        if self.size == 1:
            return list(numbers)
        maxima = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(maxima, op=dist.ReduceOp.MAX, group=self.group)
        return [float(x) for x in maxima]

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """Gather all ``count`` rows, in order, on the CPU of every process; each passes those of ``rows(count)``."""
        if self.size == 1:
            return rows.cpu()
        # Every process sends as many rows as the one with the most: gloo only gathers equal shapes.
        longest = -(-count // self.size)
        padded = torch.zeros((longest, *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(rows)] = rows.cpu()
        gathered = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(gathered, padded, group=self.group)
        ends = [World(rank, self.size).rows(count) for rank in range(self.size)]
        return torch.cat([each[: last - first] for each, (first, last) in zip(gathered, ends, strict=True)])

    def shared(self, count: int, make: Callable[[int, int], Tensor]) -> Tensor:
        """All ``count`` rows, in order, on the CPU of every process; each makes its own by ``make(first, last)``.

        If there are fewer rows than processes, every process makes all of them.
        """
        if count < self.size:
            return make(0, count).cpu()
        return self.gather(make(*self.rows(count)), count)

    def gather_text(self, text: str) -> list[str]:
        """The texts of all processes, in order, on every process."""
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
        """Raise on all processes an InputError that one process raises inside the context.

        Otherwise the others would wait for it. All processes must reach the end of the context, and must not
        communicate inside it.
        """
        own: InputError | None = None
        try:
            yield
        except InputError as error:
            if self.size == 1:
                raise
            own = error
        kinds = {"full": DiskFullError, "input": InputError}
        kind = "full" if isinstance(own, DiskFullError) else "input"
        for text in self.gather_text("" if own is None else f"{kind} {own}"):
            if text:
                name, _, message = text.partition(" ")
                raise own or kinds[name](message)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            dist.barrier(group=self.group)


class LostProcessError(FailedError):
    """Another process has ended or stopped responding."""


ALONE = World()


@contextmanager
def joined(device: torch.device, timeout: float = TIMEOUT) -> Iterator[World]:
    """Join the processes that torchrun has started, for the duration of the context.

    Small numbers travel on the CPU (gloo), gradients on the device (nccl for a GPU).

    Arguments:
        device: of the gradients.
        timeout: seconds without an answer after which a process counts as lost.

    Raises:
        LostProcessError: another process has ended, or has not answered for ``timeout`` seconds.
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
        world.wait()  # a group breaks for the others when one process leaves it early
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise LostProcessError(
            f"process {world.rank} of {size}: another process exited or stopped responding ({timeout:g} s). Restart "
            "all processes; a training continues from its last checkpoint, which is intact, with --resume "
            f"({str(error).splitlines()[0]})"
        ) from error
    finally:
        dist.destroy_process_group()
