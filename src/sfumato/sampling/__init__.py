"""A sampler is a table of numbers: pure functions from levels to a ``Tableau``, and one loop that runs them all."""

from .ancestral import ancestral as ancestral
from .ddim import ddim as ddim
from .grids import chain as chain
from .grids import uniform as uniform
from .tableau import Tableau as Tableau
from .tableau import run as run
