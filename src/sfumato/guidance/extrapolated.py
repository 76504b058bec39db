"""Guidance by extrapolation: from the estimate of a worse model through that of a better one.

    x_0 = worse + w (better - worse),    and the same for eps

Both estimates satisfy ``x_t = alpha x_0 + sigma eps``, so their combination does. The weight w = 1 is the better model
itself, to the bit, and evaluates nothing else; w = 0 is the worse one. For w > 1 the samples follow
``better + (w - 1) (better - worse)``: what sets the better one apart is exaggerated, which costs variety. The result is
not the score of any noised distribution, so a guided model has no likelihood.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core import Prediction
from sfumato.core.levels import expand
from sfumato.denoisers import Condition, Denoiser
from sfumato.errors import InputError


@dataclass(frozen=True)
class Interval:
    """The log-SNRs (nats) that guidance acts at, ends included; elsewhere the weight is 1.

    Guidance at high noise loses variety, and at low noise it changes nothing (Kynkäänniemi et al. 2024, "Applying
    guidance in a limited interval improves sample and distribution quality").

    Raises:
        InputError: a lower end that is not below the upper one.
    """

    low: int | float = -math.inf
    high: int | float = math.inf

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"interval: {self.low:g} to {self.high:g}; give two log-SNRs, the lower one first")

    def contains(self, logsnr: Tensor) -> Tensor:
        """Whether each log-SNR is in the interval."""
        return (logsnr >= self.low) & (logsnr <= self.high)


class _Extrapolated(Denoiser, ABC):
    """A denoiser ``worse + w (better - worse)``; a subclass says what is worse.

    Sample i depends on its own input alone. Times of shape () decide once for all samples, and outside the interval the
    worse model is not evaluated.

    Raises:
        InputError: a weight that is not finite.
    """

    def __init__(self, denoiser: Denoiser, weight: int | float, interval: Interval | None = None) -> None:
        super().__init__()
        if not math.isfinite(weight):
            raise InputError(f"guidance: a weight of {weight} is not finite; give a number such as 1.5")
        self.denoiser = denoiser
        self.process = denoiser.process
        self.weight = float(weight)
        self.interval = interval or Interval()

    @abstractmethod
    def worse(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> Prediction:
        """The estimates that guidance leads away from."""

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        better: Prediction = self.denoiser(x_t, t, cond)
        if self.weight == 1:
            return better
        guided = self.interval.contains(self.process.level(t).logsnr)
        if t.ndim == 0 and not bool(guided):
            return better
        other = self.worse(x_t, t, cond)
        beyond = torch.where(guided, self.weight - 1.0, 0.0).to(x_t)
        beyond = expand(beyond, x_t) if beyond.ndim else beyond
        return Prediction(
            better.x_0 + beyond * (better.x_0 - other.x_0),
            better.eps + beyond * (better.eps - other.eps),
            better.variance_share,
        )


class ClassifierFree(_Extrapolated):
    """Guidance away from the same model without the condition: ``x_0(none) + w (x_0(class) - x_0(none))``.

    The model must have been trained with the condition left out at times. With exact estimates, w > 1 sharpens
    p(class | x_t) to its power w at every noise level. A sample without a condition is not changed.

    Arguments:
        denoiser: the denoiser of a conditional model.
        weight: w; 1 is the conditional model. (Ho & Salimans 2021 call w - 1 the weight.)
        interval: where guidance acts; everywhere by default.

    Raises:
        InputError: a weight that is not finite, and, when it is called, no condition.

    References:
        Ho & Salimans 2021, "Classifier-free diffusion guidance", eq. 6.
    """

    def worse(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> Prediction:
        if cond is None:
            raise InputError(
                "guidance: leads away from the model without a condition, and none is given; name a class or numbers"
            )
        everything = torch.ones(len(cond), dtype=torch.bool)
        found: Prediction = self.denoiser(x_t, t, cond.dropped(everything))
        return found


class Autoguided(_Extrapolated):
    """Guidance away from a worse version of the same model, with the same condition, if there is one.

    What both get wrong, the worse one gets more wrong, so their difference points to the data; unlike classifier-free
    guidance it does not favour what is typical of a class.

    Arguments:
        denoiser: the denoiser.
        guide: a smaller or shorter-trained denoiser of the same data under the same process.
        weight: w; 1 is the model itself.
        interval: where guidance acts; everywhere by default.

    Raises:
        InputError: a weight that is not finite, or a guide with other noise levels.

    References:
        Karras et al. 2024, "Guiding a diffusion model with a bad version of itself", eq. 3.
    """

    def __init__(
        self, denoiser: Denoiser, guide: Denoiser, weight: int | float, interval: Interval | None = None
    ) -> None:
        super().__init__(denoiser, weight, interval)
        times = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
        with torch.no_grad():
            own, theirs = (each.process.level(times) for each in (denoiser, guide))
        if not (torch.allclose(own.alpha, theirs.alpha) and torch.allclose(own.sigma, theirs.sigma)):
            raise InputError("guidance: the guide has another process; give a run of the same recipe")
        self.guide = guide

    def worse(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> Prediction:
        found: Prediction = self.guide(x_t, t, cond)
        return found
