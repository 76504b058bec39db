"""Dropout with one mask per sample, which does not depend on the batch."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

# Odd 32-bit words with half of their bits set, the usual multipliers of a hash.
_MULTIPLIERS = (0x3C6EF35F, 0x4BF19F61, 0x2545F491)
_LOW = 0x7FFFFFFF
_CACHED = 1 << 17  # words hashed at a time on a CPU: they fit in a core's cache, which is three times as fast


class Dropout(nn.Module):
    """``y = x m / (1 - p)`` in training, with m = 0 with probability ``p`` and else 1 for each number; else ``y = x``.

    While ``keys`` (B,) are set, one per sample, the mask of a sample depends only on its key, not on the batch, the
    process or the device. Without keys this is torch's dropout.

    Arguments:
        p: probability of dropping a number.

    References:
        Srivastava et al. 2014.
    """

    keys: Int64[Tensor, "b"] | None

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p
        self.keys = None

    def forward(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        if not self.training or not self.p:
            return x
        if self.keys is None:
            return F.dropout(x, self.p)
        count = x[0].numel()
        kept = torch.empty(len(x), count, dtype=x.dtype, device=x.device)
        rows = max(1, _CACHED // count) if x.device.type == "cpu" else len(x)
        for i in range(0, len(x), rows):
            kept[i : i + rows] = _words(self.keys[i : i + rows], count) >= round(self.p * (_LOW + 1))
        return x * kept.mul_(1 / (1 - self.p)).view_as(x)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def _words(keys: Tensor, count: int) -> Tensor:
    """(B, count) words of 31 bits: a hash of the key and the position, in 32-bit integers for speed.

    One round of multiplying and folding high bits into low ones for the position, and two for both: not good enough for
    simulations, but good enough to choose which numbers to drop.
    """
    position = torch.arange(1, count + 1, device=keys.device, dtype=torch.int32) * _MULTIPLIERS[0]
    position ^= (position >> 15) & 0x1FFFF
    position *= _MULTIPLIERS[1]
    words = (keys ^ (keys >> 32)).to(torch.int32)[:, None] ^ position
    words ^= (words >> 16) & 0xFFFF
    words *= _MULTIPLIERS[1]
    words ^= (words >> 15) & 0x1FFFF
    words *= _MULTIPLIERS[2]
    words ^= (words >> 16) & 0xFFFF
    return words & _LOW
