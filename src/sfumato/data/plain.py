"""Plain JSON values read with their types checked, for contracts that come from a file."""

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import InputError

Reader = Callable[[object], Any]
"""Returns the value in its Python type, or raises TypeError."""

Fields = Mapping[str, tuple[str, Reader]]
"""By key: the allowed kind of value in words, and its reader."""


def read_fields(data: object, fields: Fields, within: str = "") -> dict[str, Any]:
    """Return the value of each of ``fields`` in the JSON object ``data``.

    Arguments:
        data: the parsed JSON.
        fields: the keys, all of them required.
        within: path of ``data`` in the contract, such as "transform."; it stands before each key in an error.

    Raises:
        InputError: ``data`` is not an object, or has unknown, missing or mistyped keys.
    """
    if not isinstance(data, dict):
        where = f"key '{within[:-1]}' must be" if within else "expected"
        raise InputError(f"data contract: {where} a JSON object, found {type(data).__name__}")
    unknown, missing = sorted(data.keys() - fields.keys()), sorted(fields.keys() - data.keys())
    if unknown or missing:
        named = [f"unknown keys {', '.join(f'{within}{key}' for key in unknown)}"] * bool(unknown)
        named += [f"missing keys {', '.join(f'{within}{key}' for key in missing)}"] * bool(missing)
        raise InputError(f"data contract: {' and '.join(named)}; it was edited, or comes from another version")
    found = {}
    for key, (kind, read) in fields.items():
        try:
            found[key] = read(data[key])
        except TypeError:  # also for an unhashable value where a name is expected
            raise InputError(f"data contract: key '{within}{key}' must be {kind}, found {data[key]!r:.60}") from None
    return found


def require(holds: bool, claim: str) -> None:
    """Raise the error of a contract that breaks ``claim``, unless it ``holds``."""
    if not holds:
        raise InputError(
            f"data contract: {claim}; it was edited, or comes from another version: restore the original file"
        )


def text(value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError
    return value


def whole(value: object) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def number(value: object) -> float:
    """A number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError
    return float(value)


def optional(read: Reader) -> Reader:
    """A reader that also takes null."""
    return lambda value: None if value is None else read(value)


def several(read: Reader) -> Reader:
    """A reader of a list, as a tuple."""

    def read_all(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise TypeError
        return tuple(map(read, value))

    return read_all
