"""Choices of how a network computes its function, for speed or memory, made from outside."""

from typing import Literal, Protocol, runtime_checkable

from torch import nn

Attention = Literal["written", "fused"]
"""Attention as matrix products and a softmax, or torch's fused one."""


@runtime_checkable
class Configurable(Protocol):
    """A network whose execution can be chosen. Every choice computes the same function, up to rounding."""

    def configure(
        self, *, attention: Attention | None = None, lean_norms: bool | None = None, recompute: bool | None = None
    ) -> None:
        """Change how the network computes; a choice that is None stays as it is.

        Arguments:
            attention: "fused" has no forward or second derivatives.
            lean_norms: whether norms keep only their input for the backward pass and compute the rest again. They then
                have no forward or second derivatives.
            recompute: whether the backward pass computes each unit again from its input: a third more time for a
                fraction of the memory, with the same gradient to the bit.
        """

    def units(self) -> list[nn.Module]:
        """The modules that are computed one after another, in order. Sharding gathers the weights of one at a time."""


def network_of(module: nn.Module) -> nn.Module:
    """The ``network`` of ``module``, where time and memory go; ``module`` itself if it has none."""
    network = getattr(module, "network", None)  # not a Protocol: submodules are not attributes of their class
    return network if isinstance(network, nn.Module) else module
