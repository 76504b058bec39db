"""The weighted denoising loss.

    L = E_{t, x_0, eps} w(level) |eps - eps_hat(x_t, t)|^2 / D

Two predictions with the same x_t differ by ``y - y_hat = (det / alpha) (eps - eps_hat)`` in any target's units, so the
same loss is ``w (alpha / det)^2 |y - y_hat|^2``: well-conditioned wherever the network's own target is.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from sfumato.core import Level, NoiseSource
from sfumato.denoisers import NetworkDenoiser

from .objective import Objective, Pairing
from .times import TimeSampler
from .weights import LEVEL_ALONE, Weight, simple


class DenoisingLoss(Objective):
    """The loss of a network denoiser: means over the D numbers of a sample."""

    def __init__(self, times: TimeSampler, weight: Weight = simple, pairing: Pairing | None = None) -> None:
        super().__init__(times)
        self._weight = weight
        self.pairing = pairing
        self._level_alone = getattr(weight, "func", weight) in LEVEL_ALONE  # of a partial, the function

    def weight(self, level: Level, rate: Tensor) -> Tensor:
        return self._weight(level, rate)

    def at(
        self,
        denoiser: NetworkDenoiser,
        x_0: Float[Tensor, "b *s"],
        t: Float[Tensor, "*b"],
        noise: NoiseSource,
        cond: Any = None,
    ) -> Float[Tensor, "b"]:
        process = denoiser.process
        level, z = process.level(t), noise(1, x_0)
        x_t = process.perturb(x_0, t, z)
        error = denoiser.target.encode(x_0, z, level) - denoiser.output(x_t, t, cond)
        rate = level.alpha if self._level_alone else self.times.rate(process, t)
        weight = self.weight(level, rate) * (level.alpha / denoiser.target.det(level)) ** 2
        return weight.to(error) * error.square().flatten(1).mean(1)
