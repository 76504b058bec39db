"""The negative ELBO of a model that knows its own, such as a hierarchical VAE."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sfumato.core import NoiseSource

from .objective import Loss


@runtime_checkable
class LatentModel(Protocol):
    """A model with a bound of its own: ``loss(x, noise)`` is the negative ELBO in nats per dimension, shape (B,)."""

    def loss(self, x: Float[Tensor, "b *s"], noise: NoiseSource) -> Float[Tensor, "b"]:
        """Unbiased, from one draw of the latents."""


class NegativeELBO(Loss[LatentModel]):
    """The model's own bound. It has no levels, and so the uniform numbers choose nothing."""

    def forward(
        self,
        module: LatentModel,
        x_0: Float[Tensor, "b *s"],
        uniform: Float[Tensor, "b"],
        noise: NoiseSource,
        cond: Any = None,
    ) -> Float[Tensor, "b"]:
        return module.loss(x_0, noise)

    def evenly(
        self,
        module: LatentModel,
        x_0: Float[Tensor, "b *s"],
        uniform: Float[Tensor, "b"],
        noise: NoiseSource,
        cond: Any = None,
    ) -> Float[Tensor, "b"]:
        return module.loss(x_0, noise)

    def levels(self, module: LatentModel, uniform: Float[Tensor, "b"], even: bool = False) -> None:
        return None

    def emphasis(self, module: LatentModel, uniform: Float[Tensor, "b"]) -> None:
        return None
