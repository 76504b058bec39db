"""Losses: weighted errors of the noise at random times, score matching, and the bound itself."""

from .batch import Batch as Batch
from .bound import BoundLoss as BoundLoss
from .bound import HybridLoss as HybridLoss
from .denoising import DenoisingLoss as DenoisingLoss
from .elbo import LatentModel as LatentModel
from .elbo import NegativeELBO as NegativeELBO
from .objective import Loss as Loss
from .objective import Objective as Objective
from .pairing import Pairing as Pairing
from .pairing import noise_of as noise_of
from .pairing import optimal_transport as optimal_transport
from .score_matching import ExplicitScoreMatching as ExplicitScoreMatching
from .score_matching import ImplicitScoreMatching as ImplicitScoreMatching
from .score_matching import SlicedScoreMatching as SlicedScoreMatching
from .times import ChainTimes as ChainTimes
from .times import LogNormalTimes as LogNormalTimes
from .times import LossAware as LossAware
from .times import OneTime as OneTime
from .times import TimeSampler as TimeSampler
from .times import UniformTimes as UniformTimes
from .uncertainty import UncertaintyWeighted as UncertaintyWeighted
from .weights import Weight as Weight
