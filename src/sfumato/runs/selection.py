"""The recipes of a comparison: one network, one data set and one seed for all."""

from collections.abc import Sequence
from typing import Any

from sfumato import recipes
from sfumato.errors import InputError
from sfumato.recipes import Recipe
from sfumato.recipes.reading import presets

from .settings import recipe_label

# Replace a recipe's own; the user's settings win. A hierarchical VAE has no classes, so a bound given them would not
# compare with its bound. A fitted mixture would hide much of what recipes differ in.
SAME = ("network.kind=auto", "network.fourier=false", "base.kind=none", "conditioning.kind=none")
_SHARED = ("data", "training.seed", "training.held_out")


def select(names: Sequence[str], overrides: Sequence[str]) -> dict[str, Recipe]:
    """The recipes by their names in the comparison, with the settings that apply to each.

    Arguments:
        names: presets or paths of YAML files; a file is called by its stem.
        overrides: "key=value" for all recipes; diffusion-only settings are not applied to hierarchical VAEs.

    Raises:
        InputError: an unknown preset, a setting that applies to no recipe, recipes that differ in data or seed.
    """
    unknown = [name for name in names if recipe_label(name) == name and name not in presets()]
    if unknown:
        listed = ", ".join(f"'{name}'" for name in unknown)
        raise InputError(f"--recipes: no preset is called {listed}; choose from {', '.join(presets())}, or a YAML file")
    found: dict[str, Recipe] = {}
    used: set[str] = set()
    for name in names:
        recipe = recipes.read(name)
        own = [text for text in overrides if recipes.applies(recipe, text)]
        used |= set(own)
        try:
            found[recipe_label(name)] = recipes.override(
                recipe, [*(text for text in SAME if recipes.applies(recipe, text)), *own]
            )
        except InputError as error:
            raise InputError(f"{recipe_label(name)}: {str(error).removeprefix('recipe: ')}") from None
    for text in overrides:
        if text not in used:
            kind = "hierarchical VAE" if text.startswith("hierarchy") else "diffusion model"
            raise InputError(f"{text}: none of these recipes is a {kind}; leave it out")
    _require_shared(found)
    return found


def _require_shared(found: dict[str, Recipe]) -> None:
    first, *others = found
    for other in others:
        for key in _SHARED:
            if _at(found[first], key) != _at(found[other], key):
                raise InputError(
                    f"--recipes: {first} and {other} differ in {key}; give it as key=value for all of them"
                )


def _at(recipe: Recipe, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(recipe, section), name) if name else getattr(recipe, section)
