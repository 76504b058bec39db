"""Recipes from YAML: presets inside the package, files of the user's, and ``dotted.key=value`` on top."""

import difflib
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from sfumato.errors import InputError

from .recipe import OF_DIFFUSION, Recipe


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's scalars, and without keys that come twice.

    ``no`` is a word, ``1e-4`` a number, ``010`` ten and ``1:30`` no number at all.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' comes twice", key.start_mark)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return, unused-ignore]

    def construct_decimal(self, node: yaml.ScalarNode) -> int:
        return int(node.value, 10)


_BOOL, _INT, _FLOAT = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float"))
_REPLACED = (_BOOL, _INT, _FLOAT, "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_constructor(_INT, _Loader.construct_decimal)
_Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?[0-9]+(?:_[0-9]+)*$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|\.inf|\.Inf|\.INF)$|^\.nan$"),
    list("-+.0123456789"),
)


# A tag can ask int() of a word, and brackets can be 5,000 deep.
_YAML_TROUBLE = (yaml.YAMLError, ValueError, RecursionError)


def presets() -> tuple[str, ...]:
    """The names of the presets in the package."""
    folder = resources.files(__package__).joinpath("presets")
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def read(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """The preset or the YAML file called ``name``, with ``dotted.key=value`` overrides.

    Raises InputError, one line each, for an unknown preset (the nearest is named), a file that is not a recipe, an
    unknown key (the nearest is named), and a value that is not allowed (what is allowed is said).
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise InputError(
                f"{name}: no such recipe file; give a YAML file or one of the presets: {', '.join(presets())}"
            )
        text = path.read_text(encoding="utf-8", errors="replace")
    elif name in presets():
        text = resources.files(__package__).joinpath("presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise InputError(
            f"recipe: '{name}' is not a preset{_nearest(name, presets())}; presets: {', '.join(presets())}"
        )
    try:
        data = yaml.load(text, _Loader)
    except _YAML_TROUBLE as error:
        raise InputError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"{name}: a recipe is a mapping of sections such as 'process:' and 'training:'")
    defaults = Recipe().model_dump(exclude=set(OF_DIFFUSION) if data.get("hierarchy") is not None else None)
    recipe = validate(_merged(defaults, data), where=name)
    return override(recipe, overrides)


def override(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """``recipe`` with ``dotted.key=value`` overrides. Raises InputError as ``read`` does."""
    return validate(_overridden(recipe.model_dump(), overrides), where="recipe")


def validate(data: dict[str, Any], where: str) -> Recipe:
    """The recipe that ``data`` describes. Raises InputError naming the first bad key in ``where``."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error, data)}") from None


def _merged(base: Any, data: Any) -> Any:
    """``data`` over ``base``; another kind has other settings, so there nothing of the base remains."""
    if (
        not isinstance(base, dict)
        or not isinstance(data, dict)
        or data.get("kind", base.get("kind")) != base.get("kind")
    ):
        return data
    return {**base, **{key: _merged(base.get(key), value) for key, value in data.items()}}


def _overridden(data: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    for text in overrides:
        key, equals, typed = text.partition("=")
        if not equals or not key:
            raise InputError(f"'{text}': an override is key=value, for example training.batch=64")
        try:
            parsed = yaml.load(typed, _Loader)
        except _YAML_TROUBLE:
            raise InputError(f"{key}: the value {typed!r} cannot be read; quote it") from None
        value = _shorthand(key, parsed)
        for part in reversed(key.split(".")):
            value = {part: value}
        data = _merged(data, value)
    return data


def _shorthand(key: str, value: Any) -> Any:
    """What people type: a bare kind for a section that has one (``process.schedule=cosine``), a size as 32x48."""
    if key in ("process.schedule", "target", "network", "objective.weight") and isinstance(value, str):
        return {"kind": value}
    if key == "data.size":
        sides = re.fullmatch(r"(\d+)(?:x(\d+))?", str(value))
        if sides:
            return [int(sides[1]), int(sides[2] or sides[1])]
    return value


def _explain(error: ValidationError, data: dict[str, Any]) -> str:
    first = error.errors()[0]
    path = _path(first["loc"], data)
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        if key in _keys(Recipe):
            section = ".".join(path[:-1])
            kind = _look_up(data, path[:-1])["kind"]
            return f"{key}: {section}.kind={kind} has no such setting; choose a kind that has, before it"
        return f"unknown key '{key}'{_nearest(key, _keys(Recipe))}"
    given = _look_up(data, path)
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        kinds = first["ctx"].get("expected_tags") or ", ".join(_kinds(path))
        return (
            f"{key}.kind: {given.get('kind')!r} is not allowed; one of {kinds}"
            if isinstance(given, dict)
            else (f"{key}: {given!r} is not allowed; a section with a kind: {kinds}")
        )
    if first["type"] == "string_pattern_mismatch":
        return (
            f"{key}: {given!r} is not allowed; give letters, digits and . _ + - only, beginning with a letter or digit"
        )
    allowed = (
        first["msg"]
        .replace("Input should be", "give")
        .removeprefix("Value error, ")
        .partition(" or object to extract")[0]
    )
    if isinstance(given, dict):
        return f"{key}: {allowed}"
    return f"{key}: {given!r} is not allowed; {allowed}"


def _path(loc: tuple[int | str, ...], data: Any) -> list[str]:
    """The location without the tags that pydantic puts in for the member of a union."""
    path = []
    for part in loc:
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


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if get_origin(annotation) in (Union, UnionType, Annotated):
        for part in get_args(annotation):
            yield from _models(part)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = list(_models(field.annotation))
        yield prefix + name
        for section in inner:
            yield from _keys(section, f"{prefix}{name}.")


def _kinds(path: list[str]) -> list[str]:
    annotation: Any = Recipe
    for part in path:
        model = next(_models(annotation))
        annotation = model.model_fields[part].annotation
    return [kind for model in _models(annotation) for kind in get_args(model.model_fields["kind"].annotation)]


def _nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, judged by the whole dotted key first and by its last part second."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1)
    if not close:
        by_last = {candidate.rpartition(".")[2]: candidate for candidate in names}
        close = [by_last[last] for last in difflib.get_close_matches(name.rpartition(".")[2], by_last, n=1)]
    return f"; did you mean {close[0]}?" if close else ""
