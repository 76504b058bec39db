"""Noise levels weighted by the uncertainty of their loss: multi-task learning over noise levels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.denoisers import Denoiser

from .batch import Batch
from .objective import Loss, Objective

KNOTS = 33
REACH = 20.0  # the knots cover log-SNRs of -REACH .. REACH; beyond, the uncertainty is constant
SPEED = 10.0  # learning rate of the heights relative to weights, because they change more


class UncertaintyWeighted(Loss[Denoiser]):
    """``loss / exp(u) + u`` with a learned u(logsnr), whose minimum is the log of the expected loss at each level.

    Every noise level then has the same influence on the network, whatever the weight of the ``objective``. In the paper
    u is a small network; here it is piecewise linear between ``KNOTS`` knots. ``evaluate`` leaves u out.

    Arguments:
        objective: the objective whose losses are reweighted.

    References:
        Karras et al. 2024 (EDM2), eq. 14-15; Kendall et al. 2018.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.pairing = objective.pairing
        self.heights = nn.Parameter(torch.zeros(KNOTS))

    def uncertainty(self, logsnr: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """u at these log-SNRs, float64."""
        position = (logsnr.clamp(-REACH, REACH) / REACH + 1) / 2 * (KNOTS - 1)
        k = position.floor().long().clamp(max=KNOTS - 2)
        heights = SPEED * self.heights.double().to(logsnr.device)
        return heights[k] + (position - k) * (heights[k + 1] - heights[k])

    def losses(self, module: Denoiser, batch: Batch) -> Float[Tensor, "b"]:
        losses = self.objective.losses(module, batch)
        u = self.uncertainty(self.objective.noise_levels(module, batch.uniform)[1]).to(losses)
        weighted: Tensor = losses / u.exp() + u
        return weighted

    def even_losses(self, module: Denoiser, batch: Batch) -> Float[Tensor, "b"]:
        return self.objective.even_losses(module, batch)

    def noise_levels(
        self, module: Denoiser, uniform: Float[Tensor, "b"], even: bool = False
    ) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        return self.objective.noise_levels(module, uniform, even)

    def relative_weight(self, module: Denoiser, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        logsnr = self.noise_levels(module, uniform, even=True)[1]
        return self.objective.relative_weight(module, uniform) / self.uncertainty(logsnr).detach().exp()
