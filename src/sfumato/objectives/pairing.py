"""Pairings of noise with samples that shorten the paths of a flow."""

from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor

from sfumato.core import NoiseSource, PairedNoise, SeededNoise
from sfumato.denoisers import Condition
from sfumato.numerics.assignment import assign

Pairing = Callable[[NoiseSource, Tensor | None], NoiseSource]
"""Reassigns draw 1 of the noise within a whole batch, or within groups (B,) of it."""


def optimal_transport(noise: NoiseSource, groups: Int64[Tensor, "b"] | None = None) -> NoiseSource:
    """The noise whose draw 1 is reassigned within the batch so that ``sum |x_0 - z|^2`` is least.

    Each z is still standard normal, but x_t no longer has the distribution q(x_t | x_0), and the learned velocity is
    that of a flow with straighter paths. A sample then depends on its batch, as the method intends. Other draws do not
    change.

    With ``groups`` (B,), such as the classes of a conditional model, noise is reassigned within each group: over the
    whole batch a class would get the noise on its own side, so that given the class z would no longer be standard
    normal, and a conditional model is sampled from standard normal noise.

    References:
        Tong et al. 2024; Pooladian et al. 2023.
    """

    def paired(draw: int, like: Tensor) -> Tensor:
        z = noise(draw, like)
        if draw != 1:
            return z
        if groups is None:
            return _nearest(like, z)
        result = z.clone()
        for group in sorted(set(groups.tolist())):
            own = groups == group
            result[own] = _nearest(like[own], z[own])
        return result

    return paired


def _nearest(x_0: Tensor, z: Tensor) -> Tensor:
    """``z`` in the order that makes ``sum |x_0 - z|^2`` least."""
    # |x - z|^2 = |x|^2 + |z|^2 - 2 x.z: only the last term depends on the pairing.
    return z[assign(-(x_0.flatten(1).double() @ z.flatten(1).double().T))]


def noise_of(
    values: Float[Tensor, "b *s"],
    keys: Int64[Tensor, "b"],
    z: Float[Tensor, "b *s"] | None = None,
    pairing: Pairing | None = None,
    cond: Condition | None = None,
) -> SeededNoise | PairedNoise:
    """The noise of a whole batch.

    Arguments:
        values: the samples x_0 of the batch.
        keys: one random key per sample.
        z: noise that comes with the data, used as draw 1; None draws it from the keys.
        pairing: reassigns draw 1 within the batch, among samples of one class; those without a class are one too.
        cond: the condition of the samples, as the network gets it.
    """
    noise: SeededNoise | PairedNoise = SeededNoise(keys)
    if z is not None:
        noise = PairedNoise(z, SeededNoise(keys))
    if pairing is None:
        return noise
    groups = None if cond is None else cond.classes
    return PairedNoise(pairing(noise, groups)(1, values), SeededNoise(keys))
