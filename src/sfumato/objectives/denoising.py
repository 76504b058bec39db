"""The weighted denoising loss.

    L = E_{t, x_0, eps} w(level) |eps - eps_hat(x_t, t)|^2 / D

Two predictions with the same x_t differ by ``y - y_hat = (det / alpha) (eps - eps_hat)`` in any target's units, so the
same loss is ``w (alpha / det)^2 |y - y_hat|^2``: well-conditioned wherever the network's own target is.
"""

from jaxtyping import Float
from torch import Tensor

from sfumato.core import Level
from sfumato.denoisers import NetworkDenoiser

from .batch import Batch
from .objective import Objective
from .pairing import Pairing
from .times import TimeSampler
from .weights import RATE_FREE, Weight, simple


class DenoisingLoss(Objective):
    """The weighted error of a network denoiser, averaged over the D numbers of a sample.

    Arguments:
        times: the distribution of times.
        weight: the weight of a noise level.
        pairing: reassigns the noise within a batch; None leaves it independent of the data.
    """

    def __init__(self, times: TimeSampler, weight: Weight = simple, pairing: Pairing | None = None) -> None:
        super().__init__(times)
        self._weight = weight
        self.pairing = pairing
        self._rate_free = getattr(weight, "func", weight) in RATE_FREE  # a partial's func is the weight itself

    def weight(self, level: Level, rate: Tensor) -> Tensor:
        return self._weight(level, rate)

    def at(
        self,
        denoiser: NetworkDenoiser,
        batch: Batch,
        t: Float[Tensor, "*b"],
    ) -> Float[Tensor, "b"]:
        process = denoiser.process
        x_0, level, z = batch.x_0, process.level(t), batch.noise(1, batch.x_0)
        x_t = process.perturb(x_0, t, z)
        error = denoiser.target.encode(x_0, z, level) - denoiser.output(x_t, t, batch.cond)
        rate = level.alpha if self._rate_free else self.times.rate(process, t)
        weight = self.weight(level, rate) * (level.alpha / denoiser.target.det(level)) ** 2
        return weight.to(error) * error.square().flatten(1).mean(1)
