"""The contract of a denoiser."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from sfumato.core import Prediction, Process

from .condition import Condition


class Denoiser(nn.Module, ABC):
    """``denoiser(x_t, t, cond) -> Prediction``: what is believed about x_0 and eps given x_t, under its ``process``.

    ``x_t`` has shape (B, *), ``t`` in (0, 1] shape () or (B,); ``cond`` is one opaque value that only the denoiser
    interprets, None for none. Sample i of the prediction depends on sample i of the input alone. What changes a
    belief (clamping, guidance, conditioning on a measurement) is a denoiser around a denoiser.
    """

    process: Process

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        """The prediction at ``x_t``, both members of its shape and type."""
