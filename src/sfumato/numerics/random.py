"""Random numbers as pure functions: no generator, no state, the same on every device.

SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators") is a counter put through a
bijective mixer of 64-bit words,

    word(key, n) = mix(key + (n + 1) * GOLDEN),

so number n of the stream of ``key`` costs the same as the first. One key per sample makes sample i independent of its
batch; one key per training image makes a run resumable from one integer.
"""

import hashlib
import json
import math
from typing import SupportsIndex

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .integers import whole


def _signed(word: int) -> int:
    """The 64-bit word in two's complement: torch's int64 wraps, but accepts no constant above 2^63."""
    return word - (1 << 64) if word >> 63 else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd: SplitMix64's increment
_MULTIPLIERS = (_signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB))  # Stafford's mixer 13
_SHIFTS = (30, 27, 31)


def _xor_shift_(words: Tensor, shift: int) -> Tensor:
    # `>>` on int64 copies the sign; the mask makes it the logical shift that the mixer needs.
    return words.bitwise_xor_((words >> shift).bitwise_and_((1 << (64 - shift)) - 1))


def _mix_(words: Tensor) -> Tensor:
    """SplitMix64's mixer, a bijection of 64-bit words, in place."""
    _xor_shift_(words, _SHIFTS[0]).mul_(_MULTIPLIERS[0])
    _xor_shift_(words, _SHIFTS[1]).mul_(_MULTIPLIERS[1])
    return _xor_shift_(words, _SHIFTS[2])


def derive(*parts: SupportsIndex | str) -> int:
    """One seed in [0, 2^63) from integers and names, different for different ``parts`` (BLAKE2b)."""
    numbers = [part if isinstance(part, str) else whole("seed", part) for part in parts]
    return int.from_bytes(hashlib.blake2b(json.dumps(numbers).encode(), digest_size=8).digest(), "big") >> 1


def keys(seed: int, indices: Int64[Tensor, "b"]) -> Int64[Tensor, "b"]:
    """A key for each index under ``seed``: ``mix(seed + (index + 1) GOLDEN)``; distinct indices have distinct keys."""
    return _mix_((indices + 1) * _GOLDEN + seed)


def _words(key: Tensor, draw: int, count: int) -> Tensor:
    """The first ``count`` words (B, count) of stream number ``draw`` of each key."""
    # Each draw has its own stream instead of a distant position in a common one, so no length needs to be known.
    streams = _mix_(key + _signed(derive("draw", draw)))
    counter = torch.arange(1, count + 1, device=key.device, dtype=torch.int64).mul_(_GOLDEN)
    return _mix_(streams[:, None] + counter)


def uniform(key: Int64[Tensor, "b"], draw: int, count: int) -> Float[Tensor, "b count"]:
    """Uniform numbers (B, count) in the open interval (0, 1), float64: the middles of 2^52 equal cells.

    With 2^53 cells, the last middle would round to 1 in float64.
    """
    words = _words(key, draw, count)
    return ((words >> 12) & ((1 << 52) - 1)).double().add_(0.5).mul_(2.0**-52)


def normal(key: Int64[Tensor, "b"], draw: int, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers, shape (B, count), by Box & Muller (1958).

    Each 64-bit word gives two numbers: 32 bits of radius, 32 bits of angle. The largest magnitude is
    sqrt(2 ln 2^33) = 6.8; a standard normal number exceeds it once in 10^11 draws.
    """
    words = _words(key, draw, (count + 1) // 2)
    low = (1 << 32) - 1
    radius = ((words >> 32) & low).double().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
    angle = (words & low).double().mul_(2 * math.pi * 2.0**-32)
    pairs = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1)
    return pairs.flatten(1)[:, :count].to(dtype)
