"""Whether a model copies its training data."""

from .copying import Copying as Copying
from .copying import copying as copying
from .copying import unfit as unfit
from .copying import verdict as verdict
from .mixture import Gap as Gap
from .mixture import likelihood_gap as likelihood_gap
from .nearest import several_nearest as several_nearest
