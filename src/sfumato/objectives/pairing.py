"""Pairings of noise with samples that shorten the paths of a flow."""

from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor

from sfumato.core import NoiseSource, PairedNoise, SeededNoise
from sfumato.numerics.assignment import assign

Pairing = Callable[[NoiseSource], NoiseSource]
"""Reassigns draw 1 of the noise within a whole batch."""


def optimal_transport(noise: NoiseSource) -> NoiseSource:
    """The noise whose draw 1 is reassigned within the batch so that ``sum |x_0 - z|^2`` is least.

    Each z is still standard normal, but x_t no longer has the distribution q(x_t | x_0), and the learned velocity is
    that of a flow with straighter paths. A sample then depends on its batch, as the method intends. Other draws do not
    change.

    References:
        Tong et al. 2024; Pooladian et al. 2023.
    """

    def paired(draw: int, like: Tensor) -> Tensor:
        z = noise(draw, like)
        if draw != 1:
            return z
        # |x - z|^2 = |x|^2 + |z|^2 - 2 x.z: only the last term depends on the pairing.
        return z[assign(-(like.flatten(1).double() @ z.flatten(1).double().T))]

    return paired


def noise_of(
    values: Float[Tensor, "b *s"],
    keys: Int64[Tensor, "b"],
    z: Float[Tensor, "b *s"] | None = None,
    pairing: Pairing | None = None,
) -> SeededNoise | PairedNoise:
    """The noise of a whole batch.

    Arguments:
        values: the samples x_0 of the batch.
        keys: one random key per sample.
        z: noise that comes with the data, used as draw 1; None draws it from the keys.
        pairing: reassigns draw 1 within the batch.
    """
    noise: SeededNoise | PairedNoise = SeededNoise(keys)
    if z is not None:
        noise = PairedNoise(z, SeededNoise(keys))
    return noise if pairing is None else PairedNoise(pairing(noise)(1, values), SeededNoise(keys))
