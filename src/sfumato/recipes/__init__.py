"""The declarative description of a run: validated, versioned, plain data."""

from .reading import override as override
from .reading import presets as presets
from .reading import read as read
from .recipe import Recipe as Recipe
