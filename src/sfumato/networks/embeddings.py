"""Embeddings of the noise label: how a network is told how noisy its input is, and what else is known of it.

A label is one real number a sample. Its features are sines and cosines of several frequencies,

    features(label) = [sin(w_1 label), ..., sin(w_h label), cos(w_1 label), ..., cos(w_h label)],     h = dim / 2

and a small network of two layers makes the embedding of them. ``Sinusoidal`` suits labels that count steps (0 to 1000),
``Fourier`` labels of order one (logsnr / 4). Angles are computed in float32 at least, whatever the network's own type.

Other numbers that are known of a sample, its condition, are added to the features by a linear map without a bias: a
condition of zeros says nothing, to the bit. (Karras et al., 2022, appendix F.2: how an image was augmented.)
"""

import math
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.errors import InputError
from sfumato.networks.arguments import even, positive_real
from sfumato.networks.layers import full_precision, linear

NAMES: Final = ("sinusoidal", "fourier")


def random_frequencies(*size: int, scale: float) -> Tensor:
    """Draws from N(0, scale^2), of the given size, in periods per unit.

    They are rounded to bfloat16's eight bits, which float16 holds too: at half precision a network has the same angles.
    """
    drawn = scale * torch.randn(size)
    return drawn.bfloat16().to(drawn.dtype)


class Sinusoidal(nn.Module):
    """Frequencies from 1 down to 1 / ``max_period``: ``w_i = max_period^(-i / (h - 1))``, i = 0 .. h - 1.

    ``(B,) -> (B, dim)``, in float32 or the label's type if that is wider. Raises ``InputError`` unless ``dim`` is even
    and at least 4. (Vaswani et al., 2017, section 3.5, in the form of Ho et al., 2020, whose last frequency is
    1 / ``max_period`` itself and whose sines come first.)
    """

    def __init__(self, dim: int, max_period: float = 10_000.0) -> None:
        super().__init__()
        self.count = even("dim", dim) // 2
        self.rate = -math.log(positive_real("max_period", max_period)) / (self.count - 1)

    def forward(self, label: Float[Tensor, " b"]) -> Float[Tensor, "b dim"]:
        # Computed here and not kept as a buffer, which ``module.half()`` would round.
        label = label.to(torch.promote_types(label.dtype, torch.float32))
        index = torch.arange(self.count, dtype=label.dtype, device=label.device)
        angle = label[:, None] * torch.exp(self.rate * index)
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class Fourier(nn.Module):
    """Random frequencies, drawn once and kept with the weights: ``w_i = 2 pi f_i``, f_i ~ N(0, scale^2).

    ``(B,) -> (B, dim)``, in float32 or the label's type if that is wider; ``scale`` is in periods per unit of label.
    Raises ``InputError`` unless ``dim`` is even and at least 4. (Tancik et al., 2020, "Fourier features let networks
    learn high frequency functions in low dimensional domains", section 5; Song et al., 2021, appendix C.)
    """

    frequencies: Tensor

    def __init__(self, dim: int, scale: float = 1.0) -> None:
        super().__init__()
        drawn = random_frequencies(even("dim", dim) // 2, scale=positive_real("scale", scale))
        self.register_buffer("frequencies", drawn)

    def forward(self, label: Float[Tensor, " b"]) -> Float[Tensor, "b dim"]:
        label = label.to(torch.promote_types(label.dtype, torch.float32))
        angle = label[:, None] * (2.0 * math.pi * self.frequencies.to(label.dtype))
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class LabelEmbedding(nn.Module):
    """``silu(linear(silu(linear(features(label) + C cond))))``, ``(B,), (B, conditions) -> (B, dim)``.

    ``kind`` is "sinusoidal" or "fourier", of ``features`` numbers; C is a matrix, and there is none without conditions.
    The output has the type of the weights. Raises ``InputError`` for another kind, for ``conditions`` that are not an
    integer of at least 0, and for a ``cond`` that is neither None, which stands for zeros, nor of shape
    (B, conditions).
    """

    def __init__(self, kind: str, features: int, dim: int, conditions: int = 0) -> None:
        super().__init__()
        if kind not in NAMES:
            raise InputError(f"embedding={kind!r} is not known: give one of {', '.join(map(repr, NAMES))}")
        if not isinstance(conditions, int) or isinstance(conditions, bool) or conditions < 0:
            raise InputError(f"conditions={conditions!r} is not allowed: give an integer of at least 0, 0 for none")
        self.features: nn.Module = Sinusoidal(features) if kind == "sinusoidal" else Fourier(features)
        self.conditions = conditions
        self.condition = linear(conditions, features, bias=False) if conditions else None
        self.linear1 = linear(features, dim)
        self.linear2 = linear(dim, dim)

    def forward(
        self, label: Float[Tensor, " b"], cond: Float[Tensor, "n conditions"] | None = None
    ) -> Float[Tensor, "b dim"]:
        with full_precision(label):  # a label's neighbours differ in its last digits
            h = self.features(label).to(self.linear1.weight.dtype)
            if cond is not None:
                h = h + self._told(cond, len(label))
            return F.silu(self.linear2(F.silu(self.linear1(h))))

    def _told(self, cond: Tensor, batch: int) -> Tensor:
        if self.condition is None:
            raise InputError(
                f"cond of shape {tuple(cond.shape)} was given to a network of conditions=0: "
                "leave cond out, or build the network with as many conditions as a sample has"
            )
        if tuple(cond.shape) != (batch, self.conditions):
            raise InputError(
                f"cond of shape {tuple(cond.shape)} does not fit {batch} samples of conditions={self.conditions}: "
                f"give cond of shape {(batch, self.conditions)}"
            )
        told: Tensor = self.condition(cond.to(self.condition.weight.dtype))
        return told
