"""Schedules that are learned: modules with a few numbers of their own.

What they may learn from is a bound. An unweighted loss would move the levels to where denoising is easy, and collapse
them; so a learned schedule hands gradients to a bound alone (see ``objectives.bound``).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.errors import InputError
from sfumato.numerics.density import Density

from .schedules import Chain, Schedule, Tabulated

REACH = 6.0  # how far, in log-SNR, an end may move from where it began


class LearnedLogSNR(nn.Module, Schedule):
    """A log-SNR from ``logsnr_max`` to ``logsnr_min`` along a monotone function that is learned (Kingma et al. 2021).

    ``logsnr(t) = max + (min - max) quantile(t)``: a uniform t falls on log-SNRs of a learned ``density`` over the
    range, piecewise constant on ``cells``. So the inverse is exact, and learning the inside is learning where to
    look.

    The ends learn by whatever gradient reaches ``logsnr`` (VDM's section 5: the bound's), within ``REACH`` or a third
    of the range of where they began; the inside by the density alone, ``log_density`` (the variance of the bound's
    estimate). Raises InputError unless both ends are finite and in order.
    """

    def __init__(self, logsnr_min: float = -5.0, logsnr_max: float = 13.3, cells: int = 64) -> None:
        super().__init__()
        if not -torch.inf < logsnr_min < logsnr_max < torch.inf:
            raise InputError(f"logsnr_min {logsnr_min}, logsnr_max {logsnr_max}: need finite ends, min below max")
        if cells < 1:
            raise InputError(f"cells: {cells} make no density; give at least 1")
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
        """The log-density with which a uniform t falls on these log-SNRs, in units of the range."""
        ends = self.ends().detach().to(logsnr.device)
        return self.density.log_prob(((ends[0] - logsnr.detach()) / (ends[0] - ends[1])).clamp(0, 1))

    @property
    def remedy(self) -> str:
        return "lower logsnr_min"


class LearnedBetas(nn.Module, Chain):
    """A chain whose betas are learned, each the sigmoid of a number: in (0, 1), and alpha-bar falling, whatever it is.

    ``betas`` (T,) are where they begin (Sohl-Dickstein et al. 2015, section 2.4.1). Raises InputError as ``Tabulated``.
    """

    def __init__(self, betas: Float[Tensor, "t"]) -> None:
        super().__init__()
        betas = Tabulated(betas).betas
        self.register_buffer("start", torch.logit(betas))
        self.change = nn.Parameter(torch.zeros(len(betas)))

    start: Tensor

    @property
    def betas(self) -> Tensor:
        """As they are now, float64."""
        return torch.sigmoid(self._logits())

    def _logits(self) -> Tensor:
        # At the pace of a weight: ten times faster, they ran ahead of the network and settled where it was still poor.
        return self.start.double() + self.change.double()

    @property
    def steps(self) -> int:
        return len(self.change)

    @property
    def decay(self) -> Tensor:
        # -log(1 - sigmoid(l)) = softplus(l)
        steps = -nn.functional.logsigmoid(-self._logits())
        return torch.cat((steps.new_zeros(1), steps.cumsum(0)))
