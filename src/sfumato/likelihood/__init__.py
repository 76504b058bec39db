"""Likelihoods of data with error bars: the bound over noise levels, and the exact value along the probability flow."""

from sfumato.bounds.terms import finest_time as finest_time

from .bits import Estimate as Estimate
from .bits import bits_per_dim as bits_per_dim
from .bound import Bound as Bound
from .bound import walk_times as walk_times
from .estimate import estimate as estimate
from .exact import Exact as Exact
from .exact import dequantised_likelihood as dequantised_likelihood
from .exact import flow_likelihood as flow_likelihood
from .intervals import Span as Span
from .measure import LikelihoodOptions as LikelihoodOptions
from .measure import forecast as forecast
from .measure import measure_bound as measure_bound
from .measure import measure_flow as measure_flow
from .walk import walk as walk
