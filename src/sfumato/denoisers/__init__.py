"""Estimates of clean data: ``(x_t, t, cond) -> Prediction``, from a network or in closed form."""

from .base import Denoiser as Denoiser
from .condition import NOT_GIVEN as NOT_GIVEN
from .condition import Condition as Condition
from .condition import check_rows as check_rows
from .condition import condition_rows as condition_rows
from .exact import ExactDenoiser as ExactDenoiser
from .exact import GaussianMixture as GaussianMixture
from .mixture import MixtureDenoiser as MixtureDenoiser
from .network import LABELS as LABELS
from .network import NetworkDenoiser as NetworkDenoiser
from .trees import TreesDenoiser as TreesDenoiser
from .wrappers import Clamped as Clamped
from .wrappers import NormBounded as NormBounded
from .wrappers import Reprocessed as Reprocessed
