"""Schedules that are learned: modules with a few parameters.

They learn from a bound only. An unweighted loss would move the levels to where denoising is easy, and collapse them
(see ``objectives.bound``).
"""

import math
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.errors import InputError
from sfumato.numerics.bounds import kept_within
from sfumato.numerics.density import Density

from .chains import Chain, Tabulated
from .schedules import Schedule

REACH = 6.0  # how far, in log-SNR, an end may move from its initial value
LEAST_BETA = 1e-7  # a learned beta is at least this, unless it began smaller
MOST_STEP = 30.0  # the decay of one step: beta is below 1 in float64
MOST_DECAY = 1200.0  # a learned chain decays by at most this and its initial decay: alpha is above 0 in float64


class LearnedLogSNR(nn.Module, Schedule):
    """A log-SNR from ``logsnr_max`` to ``logsnr_min`` along a learned monotone function.

    ``logsnr(t) = max + (min - max) quantile(t)``: a uniform t falls on log-SNRs of a learned ``density`` over the
    range, piecewise constant on equal cells. The inverse is exact, and learning the inside means learning where to
    evaluate.

    The ends learn from the gradient that reaches ``logsnr``, the bound's, and stay within ``REACH``, or a third of the
    range, of their initial values. The inside learns only through ``log_density``, from the variance of the bound's
    estimate.

    Arguments:
        logsnr_min: the initial log-SNR at t = 1.
        logsnr_max: the initial log-SNR at t = 0.
        cells: number of cells of the density.

    Raises:
        InputError: ends that are not finite or not in order, or no cell.

    References:
        Kingma et al. 2021, section 5.
    """

    def __init__(self, logsnr_min: float = -5.0, logsnr_max: float = 13.3, cells: SupportsIndex = 64) -> None:
        super().__init__()
        if not -torch.inf < logsnr_min < logsnr_max < torch.inf:
            raise InputError(f"logsnr_min {logsnr_min}, logsnr_max {logsnr_max}: need finite ends, min below max")
        self.first = (logsnr_max, logsnr_min)
        self.reach = min(REACH, (logsnr_max - logsnr_min) / 3)
        self.moved = nn.Parameter(torch.zeros(2))
        self.density = Density(cells)

    def ends(self) -> Float[Tensor, "two"]:
        """(max, min), float64."""
        start = torch.tensor(self.first, dtype=torch.float64, device=self.moved.device)
        ends: Tensor = start + self.reach * torch.tanh(self.moved.double() / self.reach)
        return ends

    def logsnr(self, t: Tensor) -> Tensor:
        ends = self.ends().to(t.device)
        return ends[0] + (ends[1] - ends[0]) * self.density.quantile(t)

    def time(self, logsnr: Tensor) -> Tensor:
        ends = self.ends().to(logsnr.device)
        return self.density.cdf((ends[0] - logsnr) / (ends[0] - ends[1]))

    def log_density(self, logsnr: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The log-density, in units of the range, with which a uniform t falls on these log-SNRs."""
        ends = self.ends().detach().to(logsnr.device)
        return self.density.log_prob(((ends[0] - logsnr.detach()) / (ends[0] - ends[1])).clamp(0, 1))

    @property
    def remedy(self) -> str:
        return "lower logsnr_min"


class LearnedBetas(nn.Module, Chain):
    """A chain whose betas are learned.

    Each beta is the sigmoid of a parameter between two bounds that contain its initial value: ``LEAST_BETA``, and the
    beta with which T steps decay by ``MOST_DECAY``. So it is in (0, 1), and alpha-bar falls and stays above 0, for all
    finite values of the parameters.

    Arguments:
        betas: the initial betas (T,).

    Raises:
        InputError: as for ``Tabulated``.

    References:
        Sohl-Dickstein et al. 2015, section 2.4.1.
    """

    def __init__(self, betas: Float[Tensor, "t"]) -> None:
        super().__init__()
        betas = Tabulated(betas).betas
        self.register_buffer("start", torch.logit(betas))
        self.change = nn.Parameter(torch.zeros(len(betas)))
        # softplus(logit) is a step's decay.
        self.bounds = (math.log(LEAST_BETA), math.log(math.expm1(min(MOST_DECAY / len(betas), MOST_STEP))))

    start: Tensor

    @property
    def betas(self) -> Tensor:
        """The current betas (T,), float64."""
        return torch.sigmoid(self._logits())

    def _logits(self) -> Tensor:
        # At the learning rate of a weight. Ten times faster, they ran ahead of the network and settled where it was
        # still poor.
        start = self.start.double()
        lowest, highest = self.bounds
        return kept_within(start + self.change.double(), start.clamp(max=lowest), start.clamp(min=highest))

    @property
    def steps(self) -> int:
        return len(self.change)

    @property
    def decay(self) -> Tensor:
        # -log(1 - sigmoid(l)) = softplus(l)
        steps = -nn.functional.logsigmoid(-self._logits())
        return torch.cat((steps.new_zeros(1), steps.cumsum(0)))
