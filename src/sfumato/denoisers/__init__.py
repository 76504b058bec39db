"""Beliefs about clean data: ``(x_t, t, cond) -> Prediction``, from a network or in closed form."""

from .base import Denoiser as Denoiser
from .exact import ExactDenoiser as ExactDenoiser
from .exact import GaussianMixture as GaussianMixture
from .network import LABELS as LABELS
from .network import NetworkDenoiser as NetworkDenoiser
from .wrappers import Clamped as Clamped
from .wrappers import Reprocessed as Reprocessed
from .wrappers import Within as Within
