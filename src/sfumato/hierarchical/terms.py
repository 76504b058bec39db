"""The terms of a hierarchical VAE's bound."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """The terms of a negative ELBO, nats per sample: ``prior + sum of steps + decoder``, on average >= -log p(x).

    Arguments:
        prior: the cost of the top latent (B,).
        steps: the cost of the steps from z_t to z_{t-1} (B, T - 1), in column t - 2, t = 2 .. T.
        decoder: ``-log p(x | z_1)`` (B,).
    """

    prior: Float[Tensor, "b"]
    steps: Float[Tensor, "b gaps"]
    decoder: Float[Tensor, "b"]

    @property
    def nats(self) -> Float[Tensor, "b"]:
        """The negative ELBO, nats per sample."""
        return self.prior + self.steps.sum(1) + self.decoder

    def bits_per_number(self, count: int) -> Float[Tensor, "b"]:
        """The negative ELBO in bits per number, for samples of ``count`` numbers."""
        return self.nats / (count * math.log(2))
