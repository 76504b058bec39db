"""What is minimised: a distribution over t, a weight on the eps error, a target; or the bound itself."""

from .bound import BoundLoss as BoundLoss
from .bound import HybridLoss as HybridLoss
from .denoising import DenoisingLoss as DenoisingLoss
from .elbo import LatentModel as LatentModel
from .elbo import NegativeELBO as NegativeELBO
from .objective import Loss as Loss
from .objective import Objective as Objective
from .times import ChainTimes as ChainTimes
from .times import LossAware as LossAware
from .times import TimeSampler as TimeSampler
from .times import UniformTimes as UniformTimes
from .weights import WEIGHTS as WEIGHTS
from .weights import Weight as Weight
from .weights import simple as simple
