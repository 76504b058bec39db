"""Transforms between data units and model units. A new kind is one more file and one more entry in the registry."""

from ...errors import InputError
from .. import plain
from .affine import MOST_LEVELS as MOST_LEVELS
from .affine import Affine as Affine
from .base import Transform as Transform
from .columns import Columns as Columns

_KINDS: dict[str, type[Transform]] = {each.kind: each for each in (Affine, Columns)}


def transform_from_dict(data: object) -> Transform:
    """Return the transform that ``Transform.to_dict`` wrote.

    Raises:
        InputError: an unknown kind; unknown, missing or mistyped keys; values that contradict each other.
    """
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(kind, str) or kind not in _KINDS:
        raise InputError(
            f"data contract: key 'transform' must be an object whose kind is one of {', '.join(_KINDS)}, "
            f"found {data!r:.60}"
        )
    settings = {key: value for key, value in data.items() if key != "kind"}
    return _KINDS[kind](**plain.read_fields(settings, _KINDS[kind].fields, "transform."))
