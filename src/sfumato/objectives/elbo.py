"""The negative ELBO of a model that computes its own, such as a hierarchical VAE."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sfumato.core import NoiseSource

from .batch import Batch
from .objective import Loss


@runtime_checkable
class LatentModel(Protocol):
    """A model that computes its own bound."""

    def loss(self, x: Float[Tensor, "b *s"], noise: NoiseSource) -> Float[Tensor, "b"]:
        """The negative ELBO in nats per dimension, shape (B,): unbiased, from one draw of the latents."""


class NegativeELBO(Loss[LatentModel]):
    """The model's own bound. It has no noise levels, so the uniform numbers are not used."""

    def losses(self, module: LatentModel, batch: Batch) -> Float[Tensor, "b"]:
        return module.loss(batch.x_0, batch.noise)

    def even_losses(self, module: LatentModel, batch: Batch) -> Float[Tensor, "b"]:
        return module.loss(batch.x_0, batch.noise)

    def noise_levels(self, module: LatentModel, uniform: Float[Tensor, "b"], even: bool = False) -> None:
        return None

    def relative_weight(self, module: LatentModel, uniform: Float[Tensor, "b"]) -> None:
        return None
