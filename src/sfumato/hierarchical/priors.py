"""Priors p(z_T) of the top latent."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core import Gaussian

from .gaussian_mlp import bounded, unbounded


class Prior(nn.Module, ABC):
    """p(z_T), a Gaussian."""

    @abstractmethod
    def forward(self, like: Float[Tensor, "b n"]) -> Gaussian:
        """p(z_T) with a mean of the shape, type and device of ``like``."""


class StandardPrior(Prior):
    """N(0, I): the third restriction."""

    def forward(self, like: Float[Tensor, "b n"]) -> Gaussian:
        return Gaussian(torch.zeros_like(like), like.new_ones(()))


class LearnedPrior(Prior):
    """N(m, diag v) with learned m and v; N(0, I) at initialisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(width))
        self.raw = nn.Parameter(torch.full((width,), unbounded(1.0)))

    def forward(self, like: Float[Tensor, "b n"]) -> Gaussian:
        return Gaussian(self.mean.to(like.dtype).expand_as(like), bounded(self.raw).exp().to(like.dtype))
