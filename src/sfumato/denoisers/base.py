"""The interface of a denoiser."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from sfumato.core import Prediction, Process

from .condition import Condition


class Denoiser(nn.Module, ABC):
    """``denoiser(x_t, t, cond) -> Prediction``: the estimates of x_0 and eps given x_t, under its ``process``.

    Sample i of the prediction depends only on sample i of the input. Clamping, guidance and conditioning on a
    measurement are denoisers around a denoiser.
    """

    process: Process

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        """The prediction at ``x_t``; its estimates have the shape and type of ``x_t``.

        Arguments:
            x_t: noisy samples (B, *).
            t: their times in (0, 1], of shape () or (B,).
            cond: the condition of each sample, or None.
        """
