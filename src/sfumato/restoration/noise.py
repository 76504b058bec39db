"""The noise of readings as it is known: a deviation, a signal-to-noise ratio, counted photons, or not at all."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from sfumato.errors import InputError

UNKNOWN: Literal["auto"] = "auto"
"""The noise that is estimated."""

_GOLDEN = (math.sqrt(5) - 1) / 2
_KNOWN = "a standard deviation such as 0.01, a ratio such as 25dB, photons:GAIN, photons:GAIN:READ, or auto"


@dataclass(frozen=True)
class Decibels:
    """White noise, its power that of the signal divided by ``10^(ratio / 10)``.

    Arguments:
        ratio: the signal-to-noise ratio in dB, with the mean square of the readings without noise as the signal.

    Raises:
        InputError: a ratio that is not finite.
    """

    ratio: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.ratio):
            raise InputError(f"noise: {self.ratio} dB is no ratio; give a number such as 25dB")

    def deviation(self, y: Tensor) -> Tensor:
        """The standard deviation of each reading (M, *readings), from readings with noise.

        Their mean square is that of signal and noise, so the noise has ``1 / (1 + 10^(ratio / 10))`` of it.
        """
        power = y.flatten(1).pow(2).mean(1) / (1 + 10 ** (self.ratio / 10))
        return power.sqrt().reshape(-1, *[1] * (y.ndim - 1)).expand(y.shape)


@dataclass(frozen=True)
class Photons:
    """Counted photons and read noise: ``y = gain Poisson(A x / gain) + read z``.

    Its variance is ``gain A x + read^2``. It is taken to be Gaussian, which it nearly is from about ten photons on.

    Arguments:
        gain: what one photon adds to a reading.
        read: the standard deviation of the read noise, in the units of the readings.

    Raises:
        InputError: a gain that is not above 0, a negative read noise.
    """

    gain: float
    read: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.gain < math.inf and 0 <= self.read < math.inf):
            raise InputError(
                f"noise: photons of gain {self.gain} with read noise {self.read} are none; give what one photon adds "
                "to a reading, above 0, and a read noise of at least 0"
            )

    def deviation(self, expected: Tensor) -> Tensor:
        """The standard deviation of readings whose means are ``expected``; that of one photon where they are less."""
        return (self.gain * expected.clamp(min=self.gain) + self.read**2).sqrt()


def read_noise(text: str) -> "float | Decibels | Photons | Literal['auto']":
    """The noise that a text means: "0.01", "25dB", "photons:GAIN", "photons:GAIN:READ" or "auto".

    Raises InputError for other text.
    """
    if text == UNKNOWN:
        return UNKNOWN
    ratio = re.fullmatch(r"(.+?)\s*db", text, re.IGNORECASE)
    kind, *numbers = text.split(":")
    try:
        if ratio is not None:
            return Decibels(float(ratio[1]))
        if kind == "photons" and len(numbers) in (1, 2):
            return Photons(*map(float, numbers))
        return float(text)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"noise: '{text}' is not known; give {_KNOWN}") from None


def likeliest(log_evidence: Callable[[float], float], low: float, high: float, evaluations: int = 10) -> float:
    """The noise between ``low`` and ``high`` with the largest ``log_evidence``, by golden sections of its logarithm."""
    a, b = math.log(low), math.log(high)
    inner = [b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)]
    values = [log_evidence(math.exp(x)) for x in inner]
    for _ in range(evaluations - 2):
        if values[0] > values[1]:
            b, inner, values = inner[1], [inner[1] - _GOLDEN * (inner[1] - a), inner[0]], [math.nan, values[0]]
            values[0] = log_evidence(math.exp(inner[0]))
        else:
            a, inner, values = inner[0], [inner[1], inner[0] + _GOLDEN * (b - inner[0])], [values[1], math.nan]
            values[1] = log_evidence(math.exp(inner[1]))
    return math.exp(inner[0] if values[0] > values[1] else inner[1])
