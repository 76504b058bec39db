"""YAML 1.2's scalars for recipes."""

import re
from typing import Any

import yaml


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's scalars; a key that comes twice is an error.

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
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
Loader.add_constructor(_INT, Loader.construct_decimal)
Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?[0-9]+(?:_[0-9]+)*$"), list("-+0123456789"))
Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|\.inf|\.Inf|\.INF)$|^\.nan$"),
    list("-+.0123456789"),
)


# A tag can ask int() of a word, and brackets can be 5,000 deep.
YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)
