"""Which noise goes with which sample: pairs that shorten the paths of a flow."""

from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor

from sfumato.core import NoiseSource, PairedNoise, SeededNoise
from sfumato.numerics.assignment import assign

Pairing = Callable[[NoiseSource], NoiseSource]
"""Reassigns draw 1 of the noise within a whole batch."""


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


def noise_of(
    values: Float[Tensor, "b *s"],
    keys: Int64[Tensor, "b"],
    z: Float[Tensor, "b *s"] | None = None,
    pairing: Pairing | None = None,
) -> SeededNoise | PairedNoise:
    """The noise of a whole batch of ``values``: that of ``keys``, or ``z`` for draw 1, reassigned by ``pairing``."""
    noise: SeededNoise | PairedNoise = SeededNoise(keys)
    if z is not None:
        noise = PairedNoise(z, SeededNoise(keys))
    return noise if pairing is None else PairedNoise(pairing(noise)(1, values), SeededNoise(keys))
