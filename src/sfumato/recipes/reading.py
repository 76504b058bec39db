"""Recipes from YAML: presets inside the package, files of the user, and ``dotted.key=value`` overrides."""

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import yaml
from pydantic import ValidationError

from sfumato.errors import InputError
from sfumato.files import expanded

from .explain import explain, nearest
from .kinds import KINDS, kind_for
from .recipe import Recipe
from .spelling import spelled_out
from .yaml_text import YAML_ERRORS, Loader


def presets() -> tuple[str, ...]:
    """The names of the presets in the package."""
    folder = resources.files(__package__).joinpath("presets")
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def read(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """The preset or the YAML file called ``name``, with overrides.

    Arguments:
        name: name of a preset, or path of a YAML file.
        overrides: changes as ``dotted.key=value``, in any order.

    Raises:
        InputError: the preset or a key is unknown (the nearest is named), the file is not a recipe, or a value is not
            allowed (what is allowed is named). Always one line.
    """
    text = _text(name)  # its errors are ValueErrors, as some of YAML's are
    try:
        data = yaml.load(text, Loader)
    except YAML_ERRORS as error:
        raise InputError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"{name}: a recipe is a mapping of sections such as 'process:' and 'training:'")
    recipe = validate(_with_defaults(spelled_out(data, KINDS)), where=name)
    return override(recipe, overrides)


def _text(name: str) -> str:
    if name.endswith((".yaml", ".yml")):
        path = expanded(name)
        if not path.is_file():
            raise InputError(
                f"{name}: no such recipe file; give a YAML file or one of the presets: {', '.join(presets())}"
            )
        return path.read_text(encoding="utf-8", errors="replace")
    if name not in presets():
        raise InputError(f"recipe: '{name}' is not a preset{nearest(name, presets())}; presets: {', '.join(presets())}")
    return resources.files(__package__).joinpath("presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def override(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """``recipe`` with ``dotted.key=value`` overrides. Raises InputError as ``read`` does."""
    changes: dict[Any, Any] = {}
    for text in overrides:
        changes = _merged(changes, spelled_out(_parsed(text), KINDS))
    return validate(_merged(recipe.model_dump(), changes), where="recipe")


def validate(data: Mapping[Any, Any], where: str) -> Recipe:
    """The recipe of its kind that ``data`` describes. Raises InputError naming the first bad key in ``where``."""
    try:
        return kind_for(data).model_validate(data)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error, data)}") from None


def _with_defaults(data: dict[Any, Any]) -> dict[Any, Any]:
    """``data`` over the default recipe of its kind, which also names the kinds of sections."""
    merged: dict[Any, Any] = _merged(kind_for(data)().model_dump(), data)
    return merged


def _merged(base: Any, data: Any) -> Any:
    """``data`` over ``base``. A section of another kind has other settings, so it replaces that of the base."""
    if not isinstance(base, dict) or not isinstance(data, dict):
        return data
    if "kind" in base and data.get("kind", base["kind"]) != base["kind"]:
        return data
    return {**base, **{key: _merged(base.get(key), value) for key, value in data.items()}}


def _parsed(text: str) -> dict[Any, Any]:
    """``dotted.key=value`` as nested mappings."""
    key, equals, typed = text.partition("=")
    if not equals or not key:
        raise InputError(f"'{text}': an override is key=value, for example training.batch=64")
    try:
        value = yaml.load(typed, Loader)
    except YAML_ERRORS:
        raise InputError(f"{key}: the value {typed!r} cannot be read; quote it") from None
    *sections, name = key.split(".")
    nested: dict[Any, Any] = {name: value}
    for section in reversed(sections):
        nested = {section: nested}
    return nested
