"""The declarative description of a run: validated, versioned, plain data."""

from .diffusion import DiffusionRecipe as DiffusionRecipe
from .diffusion import register_network as register_network
from .hierarchy import HierarchyRecipe as HierarchyRecipe
from .kinds import applies as applies
from .mixture import MixtureRecipe as MixtureRecipe
from .networks import NetworkSection as NetworkSection
from .reading import override as override
from .reading import presets as presets
from .reading import read as read
from .recipe import Recipe as Recipe
from .trees import TreesRecipe as TreesRecipe
