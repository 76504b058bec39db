"""The declarative description of a run: validated, versioned, plain data."""

from .diffusion import DiffusionRecipe as DiffusionRecipe
from .hierarchy import HierarchyRecipe as HierarchyRecipe
from .kinds import applies as applies
from .reading import override as override
from .reading import presets as presets
from .reading import read as read
from .recipe import Recipe as Recipe
