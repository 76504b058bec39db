"""Errors of recipes in one line: the key, the value given, what is allowed, and how to fix it."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from .kinds import kind_for, kinds_with
from .section import kinds, members, sections_at
from .synonyms import meant


def explain(error: ValidationError, data: Mapping[Any, Any]) -> str:
    """The first error of ``error`` about the recipe ``data``."""
    first = error.errors()[0]
    path = _path(first["loc"], data)
    key, given = ".".join(path), _look_up(data, path)
    if first["type"] == "extra_forbidden":
        return _unknown(path, data)
    if first["type"] == "invalid_key":
        return f"key {first['loc'][-1]!r} is not allowed; a key is a word"
    if first["type"] in ("union_tag_invalid", "union_tag_not_found", "model_attributes_type"):
        return _unknown_kind(path, given, data)
    if first["type"] == "string_pattern_mismatch":
        return f"{key}: {given!r} is not allowed; give letters, digits and . _ + -, beginning with a letter or digit"
    if first["type"] == "model_type":
        return f"{key}: {given!r} is not allowed; give a mapping of settings"
    allowed = first["msg"].replace("Input should be", "give").removeprefix("Value error, ")
    return f"{key}: {allowed}" if isinstance(given, dict) else f"{key}: {given!r} is not allowed; {allowed}"


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` with the known name nearest to ``name``: as a whole, or else by its last word."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1)
    if not close:
        by_last = {candidate.rpartition(".")[2]: candidate for candidate in names}
        close = [by_last[last] for last in difflib.get_close_matches(name.rpartition(".")[2], by_last, n=1)]
    return f"; did you mean {close[0]}?" if close else ""


def _unknown(path: list[str], data: Mapping[Any, Any]) -> str:
    """The error of a key that this recipe cannot have."""
    key, recipe = ".".join(path), kind_for(data)
    if path[0] not in recipe.model_fields:
        if any(kinds_with(path[0])):
            preset = f"; leave it out, or leave out {recipe.marker}" if recipe.marker else "; leave it out"
            return f"{path[0]}: a {recipe.kind} has no such section{preset}"
        return _never(key, recipe)
    missing = _other_kind(path, data)
    if missing is None:
        return _never(key, recipe)
    section, kind, wanted = missing
    return f"{key}: {section}={kind} has no such setting; give {section}={_either(wanted)} with it, or leave it out"


def _never(key: str, recipe: type[BaseModel]) -> str:
    """The error of a key that no recipe has."""
    return f"unknown key '{key}'{meant(key, _keys(recipe)) or nearest(key, _keys(recipe))}"


def _unknown_kind(path: list[str], given: Any, data: Mapping[Any, Any]) -> str:
    """The error of a section whose kind is unknown or missing."""
    key = ".".join(path)
    allowed = ", ".join(repr(kind) for section in _members_at(path, data) for kind in kinds(section))
    if not isinstance(given, dict):
        return f"{key}: {given!r} is not allowed; give one of {allowed}"
    missing = _other_kind([*path, "kind"], data, given.get("kind"))
    where = "" if missing is None else f" with {missing[0]}={missing[1]}"
    return f"{key}.kind: {given.get('kind')!r} is not allowed{where}; give one of {allowed}"


def _other_kind(path: Sequence[str], data: Mapping[Any, Any], value: Any = None) -> tuple[str, str, list[str]] | None:
    """(key of a kind, its value, the values to give instead) if another kind of a section makes ``path`` a known key.

    With a ``value``, ``path`` leads to a kind that also has to have this value.
    """
    models: list[type[BaseModel]] = [kind_for(data)]
    inside: Any = data
    for i, part in enumerate(path):
        kind = inside.get("kind") if isinstance(inside, dict) else None
        here = [model for model in models if kind in kinds(model)] or models
        if not any(_leads(model, path[i:], value) for model in here):
            wanted = [name for model in models if _leads(model, path[i:], value) for name in kinds(model)]
            return (f"{'.'.join(path[:i])}.kind", str(kind), wanted) if wanted else None
        models = sections_at(part, here)
        inside = inside.get(part) if isinstance(inside, dict) else None
    return None


def _leads(model: type[BaseModel], path: Sequence[str], value: Any) -> bool:
    """Whether ``path`` is a key of ``model`` for some kinds of its sections."""
    field = model.model_fields.get(path[0])
    if field is None:
        return False
    if len(path) == 1:
        return value is None or value in kinds(model)
    return any(_leads(section, path[1:], value) for section in members(field))


def _members_at(path: Sequence[str], data: Mapping[Any, Any]) -> list[type[BaseModel]]:
    """The sections that may stand at ``path``."""
    models: list[type[BaseModel]] = [kind_for(data)]
    inside: Any = data
    for part in path:
        kind = inside.get("kind") if isinstance(inside, dict) else None
        here = [model for model in models if kind in kinds(model)] or models
        models = sections_at(part, here)
        inside = inside.get(part) if isinstance(inside, dict) else None
    return models


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _path(location: tuple[int | str, ...], data: Any) -> list[str]:
    """The location without the tags that pydantic inserts for the member of a union."""
    path = []
    for part in location:
        if isinstance(data, dict) and part not in data and data.get("kind") == part:
            continue
        path.append(str(part))
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
    return path


def _look_up(data: Any, path: list[str]) -> Any:
    for part in path:
        data = data[int(part)] if isinstance(data, list) else data.get(part) if isinstance(data, dict) else None
    return data


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for section in members(field):
            yield from _keys(section, f"{prefix}{name}.")
