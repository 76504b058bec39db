"""Which noise goes with which sample: pairs that shorten the paths of a flow."""

from jaxtyping import Float
from torch import Tensor

from sfumato.core import NoiseSource
from sfumato.numerics.assignment import assign


def optimal_transport(noise: NoiseSource) -> NoiseSource:
    """Draw 1 of ``noise``, what makes x_t, dealt out anew within the batch so that ``sum |x_0 - z|^2`` is least.

    Each z is still standard normal; but x_t is no longer q(x_t | x_0)'s, and the learned velocity is that of a flow
    with straighter paths (Tong et al. 2024; Pooladian et al. 2023). A sample then depends on its batch, as the method
    means it to. Other draws stay as they are.
    """

    def paired(draw: int, like: Tensor) -> Tensor:
        z = noise(draw, like)
        if draw != 1:
            return z
        # |x - z|^2 = |x|^2 + |z|^2 - 2 x.z, of which the pairing decides the last term alone.
        return z[assign(-(like.flatten(1).double() @ z.flatten(1).double().T))]

    return paired


def given(z: Float[Tensor, "b *s"], noise: NoiseSource) -> NoiseSource:
    """Draw 1 is ``z``, the other draws are those of ``noise``: for data that brings its noise along."""
    return lambda draw, like: z.to(like) if draw == 1 else noise(draw, like)
