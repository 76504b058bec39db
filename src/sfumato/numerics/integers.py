"""Whole numbers: what Python, numpy and torch call an integer, and nothing else."""

import operator
from typing import Any

from sfumato.errors import InputError


def whole(name: str, value: Any, least: int | None = None) -> int:
    """``value`` as an int, for any integer: of numpy, and a tensor without dimensions too.

    Arguments:
        name: the name of the argument, for the message.
        value: the value.
        least: the smallest that is allowed.

    Raises:
        InputError: it is no integer (None, 1.5, 2.0, True, "3"), or below ``least``.
    """
    allowed = "a whole number" if least is None else f"a whole number of at least {least}"
    dtype = str(getattr(value, "dtype", ""))
    try:
        if isinstance(value, bool) or "bool" in dtype or getattr(value, "ndim", 0) != 0:
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name}: {value!r} is not {allowed}") from None
    if least is not None and number < least:
        raise InputError(f"{name}: {number} is not allowed; give {allowed}")
    return number


def optional(name: str, value: Any, least: int | None = None) -> int | None:
    """``whole``, or None for None."""
    return None if value is None else whole(name, value, least)
