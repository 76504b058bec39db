"""Embeddings of the noise label and of a condition vector.

A label is one real number per sample. Its features are sines and cosines of several frequencies,

    features(label) = [sin(w_1 label), ..., sin(w_h label), cos(w_1 label), ..., cos(w_h label)],     h = dim / 2

and a network of two layers turns them into the embedding. ``Sinusoidal`` suits labels that count steps (0 to 1000),
``Fourier`` suits labels of order one (logsnr / 4). Angles are computed in float32 or better, whatever the type of the
network.

A condition vector is added to the features by a linear map without a bias, so a vector of zeros changes nothing, to the
bit (Karras et al. 2022, appendix F.2, for how an image was augmented). A network sees nothing else of a condition: the
denoiser turns classes and other conditions into this vector.
"""

import math
from typing import Final, SupportsIndex

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.errors import InputError
from sfumato.networks.arguments import even, positive_real
from sfumato.networks.layers import full_precision, linear
from sfumato.numerics.integers import whole

NAMES: Final = ("sinusoidal", "fourier")


def random_frequencies(*size: int, scale: float) -> Tensor:
    """Draws from N(0, scale^2) of the given size, in periods per unit.

    They are rounded to the eight bits of bfloat16, which float16 represents too, so that a network has the same angles
    at half precision.
    """
    drawn = scale * torch.randn(size)
    return drawn.bfloat16().to(drawn.dtype)


class Sinusoidal(nn.Module):
    """Frequencies from 1 down to 1 / ``max_period``: ``w_i = max_period^(-i / (h - 1))``, i = 0 .. h - 1.

    ``(B,) -> (B, dim)``, in float32 or the type of the label if that is wider.

    Arguments:
        dim: number of features, even and at least 4.
        max_period: the inverse of the last frequency.

    Raises:
        InputError: an argument is out of range.

    References:
        Vaswani et al. 2017, section 3.5, in the form of Ho et al. 2020, where the last frequency is exactly
        1 / ``max_period`` and sines come first.
    """

    def __init__(self, dim: SupportsIndex, max_period: float = 10_000.0) -> None:
        super().__init__()
        self.count = even("dim", dim) // 2
        self.rate = -math.log(positive_real("max_period", max_period)) / (self.count - 1)

    def forward(self, label: Float[Tensor, " b"]) -> Float[Tensor, "b dim"]:
        # Computed here instead of kept as a buffer, which ``module.half()`` would round.
        label = label.to(torch.promote_types(label.dtype, torch.float32))
        index = torch.arange(self.count, dtype=label.dtype, device=label.device)
        angle = label[:, None] * torch.exp(self.rate * index)
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class Fourier(nn.Module):
    """Random frequencies, drawn once and saved with the weights: ``w_i = 2 pi f_i``, f_i ~ N(0, scale^2).

    ``(B,) -> (B, dim)``, in float32 or the type of the label if that is wider.

    Arguments:
        dim: number of features, even and at least 4.
        scale: standard deviation of the frequencies, in periods per unit of the label.

    Raises:
        InputError: an argument is out of range.

    References:
        Tancik et al. 2020, "Fourier features let networks learn high frequency functions in low dimensional domains",
        section 5; Song et al. 2021, appendix C.
    """

    frequencies: Tensor

    def __init__(self, dim: SupportsIndex, scale: float = 1.0) -> None:
        super().__init__()
        drawn = random_frequencies(even("dim", dim) // 2, scale=positive_real("scale", scale))
        self.register_buffer("frequencies", drawn)

    def forward(self, label: Float[Tensor, " b"]) -> Float[Tensor, "b dim"]:
        label = label.to(torch.promote_types(label.dtype, torch.float32))
        angle = label[:, None] * (2.0 * math.pi * self.frequencies.to(label.dtype))
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class LabelEmbedding(nn.Module):
    """``silu(linear(silu(linear(features(label) + C cond))))``, ``(B,), (B, conditions) -> (B, dim)``.

    The output has the type of the weights. A ``cond`` of None stands for zeros.

    Arguments:
        kind: "sinusoidal" or "fourier".
        features: number of features.
        dim: length of the embedding.
        conditions: length of the condition vector; with 0 there is no matrix C.

    Raises:
        InputError: an argument is out of range, or ``cond`` has another shape.
    """

    def __init__(self, kind: str, features: int, dim: int, conditions: SupportsIndex = 0) -> None:
        super().__init__()
        if kind not in NAMES:
            raise InputError(f"embedding={kind!r} is not known: give one of {', '.join(map(repr, NAMES))}")
        conditions = whole("conditions", conditions)
        if conditions < 0:
            raise InputError(f"conditions={conditions} is not allowed: give an integer of at least 0, 0 for none")
        self.features: nn.Module = Sinusoidal(features) if kind == "sinusoidal" else Fourier(features)
        self.conditions = conditions
        self.condition = linear(conditions, features, bias=False) if conditions else None
        self.linear1 = linear(features, dim)
        self.linear2 = linear(dim, dim)

    def forward(
        self, label: Float[Tensor, " b"], cond: Float[Tensor, "n conditions"] | None = None
    ) -> Float[Tensor, "b dim"]:
        with full_precision(label):  # neighbouring labels differ in their last digits
            h = self.features(label).to(self.linear1.weight.dtype)
            if cond is not None:
                h = h + self._condition_features(cond, len(label))
            return F.silu(self.linear2(F.silu(self.linear1(h))))

    def _condition_features(self, cond: Tensor, batch: int) -> Tensor:
        if self.condition is None:
            raise InputError(
                f"cond of shape {tuple(cond.shape)} was given to a network of conditions=0: "
                "leave cond out, or build the network with conditions equal to the length of the vector"
            )
        if tuple(cond.shape) != (batch, self.conditions):
            raise InputError(
                f"cond of shape {tuple(cond.shape)} does not fit {batch} samples of conditions={self.conditions}: "
                f"give cond of shape {(batch, self.conditions)}"
            )
        features: Tensor = self.condition(cond.to(self.condition.weight.dtype))
        return features
