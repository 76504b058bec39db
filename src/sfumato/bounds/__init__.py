"""The terms of a variational bound, and its decoders."""

from .decoders import ContinuousGaussian as ContinuousGaussian
from .decoders import Decoder as Decoder
from .decoders import DiscretisedGaussian as DiscretisedGaussian
from .decoders import Factorised as Factorised
from .decoders import standard_decoder as standard_decoder
from .terms import Form as Form
from .terms import finest_time as finest_time
from .terms import noise_errors as noise_errors
from .terms import prior_term as prior_term
from .terms import step_term as step_term
