"""The base class of network sections: one subclass per kind of network, registered under its ``kind``."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from sfumato.data import DataSpec

from ..section import Registry, Section


class NetworkSection(Section, ABC):
    """The settings of one kind of network."""

    kind: str

    def resolved(self, spec: DataSpec, label: str) -> NetworkSection:
        """This section with everything that depends on the data or on the noise ``label`` written out."""
        return self

    @abstractmethod
    def build(self, shape: tuple[int, ...], outputs: int = 1, conditions: int = 0, extra: int = 0) -> nn.Module:
        """A fresh ``network(x, label, cond) -> y``, which is 0 at first.

        Arguments:
            shape: shape of one sample.
            outputs: number of outputs, concatenated along the channels.
            conditions: length of the condition vector, 0 for none.
            extra: channels that its input has after those of a sample.

        Raises:
            InputError: the settings do not make a network of samples of this shape.
        """


NETWORKS: Registry[NetworkSection] = Registry()
