"""Levels weighted by how uncertain their loss is: multi-task learning over noise levels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.denoisers import Denoiser

from .batch import Batch
from .objective import Loss, Objective

KNOTS = 33
REACH = 20.0  # the log-SNRs -REACH .. REACH are covered; beyond, the uncertainty is that of the end
SPEED = 10.0  # a number here has farther to go than a weight


class UncertaintyWeighted(Loss[Denoiser]):
    """``loss / exp(u) + u`` with a learned u(logsnr), whose minimum is the log of the expected loss of each level.

    So every level pulls at the network with the same strength, whatever weight the ``objective`` had (Karras et al.
    2024, EDM2, eq. 14-15; Kendall et al. 2018). Theirs is a small network; ours is linear between ``KNOTS``. A loss is
    measured without it, or it would say nothing.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.pairing = objective.pairing
        self.heights = nn.Parameter(torch.zeros(KNOTS))

    def uncertainty(self, logsnr: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """u, float64."""
        place = (logsnr.clamp(-REACH, REACH) / REACH + 1) / 2 * (KNOTS - 1)
        k = place.floor().long().clamp(max=KNOTS - 2)
        heights = SPEED * self.heights.double().to(logsnr.device)
        return heights[k] + (place - k) * (heights[k + 1] - heights[k])

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
