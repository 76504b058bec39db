"""Whether synthetic rows of a rare class help learners."""

from .measure import FEWEST, FOLDS, measure
from .overlap import overlapping
from .rows import Make
from .verdict import MARGIN, Difference, Help, difference

__all__ = ["FEWEST", "FOLDS", "MARGIN", "Difference", "Help", "Make", "difference", "measure", "overlapping"]
