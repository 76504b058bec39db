"""Dropout whose masks belong to samples."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

# Odd words of 32 bits with half of their bits set, as multipliers of a hash are chosen.
_MULTIPLIERS = (0x3C6EF35F, 0x4BF19F61, 0x2545F491)
_LOW = 0x7FFFFFFF
_CACHED = 1 << 17  # words hashed at a time, which a core's cache holds: three times as fast there


class Dropout(nn.Module):
    """``y = x m / (1 - p)`` with m = 1 or, with probability ``p``, 0 for each number of x, in training; else ``y = x``.

    With ``keys`` (B,), one for each sample, the mask of a sample is a function of its key and of nothing else: not of
    the batch, the process or the device that it comes in. Without, it is torch's. (Srivastava et al. 2014.)
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
    """(B, count) words of 31 bits: a hash of the key and the place, in 32-bit integers for speed.

    Two rounds of multiplying and of folding the high bits into the low ones, once for the place and once for both: far
    from what simulations ask of random numbers, and enough for which numbers to drop.
    """
    place = torch.arange(1, count + 1, device=keys.device, dtype=torch.int32) * _MULTIPLIERS[0]
    place ^= (place >> 15) & 0x1FFFF
    place *= _MULTIPLIERS[1]
    words = (keys ^ (keys >> 32)).to(torch.int32)[:, None] ^ place
    words ^= (words >> 16) & 0xFFFF
    words *= _MULTIPLIERS[1]
    words ^= (words >> 15) & 0x1FFFF
    words *= _MULTIPLIERS[2]
    words ^= (words >> 16) & 0xFFFF
    return words & _LOW
