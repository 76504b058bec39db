"""Measures of how samples differ from real data, each with its formula, its source and an interval."""

from .features import correlations as correlations
from .features import kolmogorov_smirnov as kolmogorov_smirnov
from .features import marginals as marginals
from .features import spectra as spectra
from .frechet import frechet as frechet
from .frechet import frechet_infinite as frechet_infinite
from .intervals import Interval as Interval
from .intervals import interval as interval
from .intervals import intervals as intervals
from .kernels import energy_distance as energy_distance
from .kernels import kernel_distance as kernel_distance
from .kernels import mmd as mmd
from .measures import Measure as Measure
from .measures import measures_of as measures_of
from .neighbourhoods import clipped_coverage as clipped_coverage
from .neighbourhoods import clipped_density as clipped_density
from .neighbourhoods import coverage as coverage
from .neighbourhoods import density as density
from .neighbourhoods import precision as precision
from .neighbourhoods import recall as recall
from .sets import Sets as Sets
from .tails import HEAVY as HEAVY
from .tails import largest_share as largest_share
from .two_samples import classifier as classifier
