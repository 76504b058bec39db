"""How steps are computed: threads, types, memory formats, attention; what may be required, and what was chosen."""

from dataclasses import dataclass
from typing import Literal

import torch

from sfumato.networks.execution import Attention

Precision = Literal["float32", "bfloat16"]
Layout = Literal["channels_first", "channels_last"]


@dataclass(frozen=True)
class Compute:
    """What is required of the computation of steps; the rest is chosen.

    Arguments:
        micro_batch: samples per forward pass of each process; None for as many as fit in memory.
        gradient_checkpointing: the backward pass computes the blocks of a U-Net again: less memory, a third more time.
        precision: type of the products inside the network; "auto" is chosen by a short benchmark.
        threads: of a CPU; None is chosen by a short benchmark.
        shard: each of several processes keeps a shard of every weight.
        compile: use torch.compile if it makes steps faster, which takes a minute or more to find out; None for long
            runs on a GPU.
    """

    micro_batch: int | None = None
    gradient_checkpointing: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = None
    shard: bool = False
    compile: bool | None = None


@dataclass(frozen=True)
class Execution:
    """How steps are computed.

    Arguments:
        threads: of a CPU.
        precision: type of the products inside the network.
        layout: memory format of images and of the weights of convolutions.
        attention: written out in products, or torch's fused one.
        lean_norms: norms keep less for the backward pass, and compute it again.
        compiled: by torch.compile.
    """

    threads: int
    precision: Precision
    layout: Layout = "channels_first"
    attention: Attention = "written"
    lean_norms: bool = False
    compiled: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The type of the products."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def __str__(self) -> str:
        words = [f"{self.threads} thread{'s' if self.threads > 1 else ''}", self.precision]
        words += ["channels last"] if self.layout == "channels_last" else []
        words += ["fused attention"] if self.attention == "fused" else []
        words += ["lean norms"] if self.lean_norms else []
        return ", ".join(words + ["compiled"] * self.compiled)
