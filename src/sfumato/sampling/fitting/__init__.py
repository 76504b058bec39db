"""Fit a tableau to a model: levels and coefficients for which few evaluations end where many would."""

from .fit import ITERATIONS as ITERATIONS
from .fit import LEAST as LEAST
from .fit import MOST as MOST
from .fit import Fit as Fit
from .fit import FitState as FitState
from .fit import check_budget as check_budget
from .fit import fit_tableau as fit_tableau
from .parameters import numbers_of as numbers_of
from .trajectories import FINE as FINE
from .trajectories import Errors as Errors
from .trajectories import Trajectories as Trajectories
from .trajectories import count_for as count_for
from .trajectories import trajectories as trajectories
