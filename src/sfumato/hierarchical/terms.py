"""What a bound is made of."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """The terms of a negative ELBO, nats per sample: ``prior + sum of steps + decoder``, on average >= -log p(x).

    ``prior`` (B,) is what the top latent costs, column t - 2 of ``steps`` (B, T - 1) what the step from z_t to z_{t-1}
    does, t = 2 .. T, and ``decoder`` (B,) is ``-log p(x | z_1)``.
    """

    prior: Float[Tensor, "b"]
    steps: Float[Tensor, "b gaps"]
    decoder: Float[Tensor, "b"]

    @property
    def nats(self) -> Float[Tensor, "b"]:
        """The negative ELBO, nats per sample."""
        return self.prior + self.steps.sum(1) + self.decoder

    def bits_per_number(self, count: int) -> Float[Tensor, "b"]:
        """The negative ELBO in bits for each of a sample's ``count`` numbers."""
        return self.nats / (count * math.log(2))
