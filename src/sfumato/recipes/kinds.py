"""The kinds of recipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .diffusion import DiffusionRecipe
from .hierarchy import HierarchyRecipe
from .mixture import MixtureRecipe
from .recipe import Recipe
from .trees import TreesRecipe

KINDS: tuple[type[Recipe], ...] = (DiffusionRecipe, HierarchyRecipe, MixtureRecipe, TreesRecipe)
"""Every kind of recipe; the first is for data without the marker of another."""


def kind_for(data: Mapping[Any, Any]) -> type[Recipe]:
    """The kind of recipe that ``data`` describes: the one whose marker it holds."""
    return next((kind for kind in KINDS if kind.marker and data.get(kind.marker) is not None), KINDS[0])


def kinds_with(section: str) -> Iterator[type[Recipe]]:
    """The kinds of recipes that have this top-level section."""
    return (kind for kind in KINDS if section in kind.model_fields)


def applies(recipe: Recipe, override: str) -> bool:
    """Whether ``override``, a ``dotted.key=value``, is for recipes of this kind: False if only other kinds have it."""
    section = override.partition("=")[0].partition(".")[0]
    return section in type(recipe).model_fields or not any(kinds_with(section))
