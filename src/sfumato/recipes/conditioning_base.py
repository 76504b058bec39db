"""What the conditioning sections have in common."""

from __future__ import annotations

from sfumato.data import DataSpec

from .section import Fraction, Section


class Conditioning(Section):
    """Base of all: what the network's condition consists of, which is nothing unless a section says so."""

    @property
    def label_dropout(self) -> float:
        """The share of training samples that are seen without their condition."""
        return 0.0

    def classes(self, spec: DataSpec) -> int:
        """The number of classes."""
        return 0

    def quantities(self, spec: DataSpec) -> int:
        """The number of numbers beside a sample."""
        return 0

    def channels(self, spec: DataSpec) -> int:
        """The number of channels of an image."""
        return 0


class Conditional(Conditioning):
    """Base of those with a condition.

    Arguments:
        dropout: the share of training samples that are seen without their condition, so that the model also knows the
            data alone, which classifier-free guidance needs (Ho & Salimans 2022, algorithm 1).
    """

    dropout: Fraction = 0.1

    @property
    def label_dropout(self) -> float:
        """The share of training samples that are seen without their condition."""
        return self.dropout
