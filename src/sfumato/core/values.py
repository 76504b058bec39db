"""The values of discrete data."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import InputError
from sfumato.numerics.integers import whole


@dataclass(frozen=True)
class ValueGrid:
    """The values that data can take: ``low + step i`` for i in 0 .. count - 1, in model units.

    Arguments:
        low: the lowest value.
        step: the difference between neighbouring values.
        count: the number of values.

    Raises:
        InputError: a number of values that is no integer, or below 1.
    """

    low: float
    step: float
    count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", whole("count", self.count, 1))

    def index(self, x_0: Float[Tensor, "b *s"]) -> Tensor:
        """The index of each number among the values, int64. Raises InputError for a number that is none of them."""
        position = (x_0.double() - self.low) / self.step
        index = position.round()
        off = ~((position - index).abs() < 0.01) | (index < 0) | (index > self.count - 1)
        if off.any():
            high = self.low + self.step * (self.count - 1)
            raise InputError(
                f"data: {int(off.sum())} numbers are none of the {self.count} values from {self.low:g} to {high:g} "
                f"(model units), the first {float(x_0[off][0]):g}; give data with the values that the model was "
                "trained on, or a decoder for continuous data"
            )
        return index.long()

    @property
    def values(self) -> Tensor:
        """All values (count,), float64."""
        return self.low + self.step * torch.arange(self.count, dtype=torch.float64)
