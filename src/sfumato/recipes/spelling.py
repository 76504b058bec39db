"""Abbreviations in recipes.

Two are understood, in files and in overrides:

    objective.times: loss-aware        a bare kind, for {kind: loss-aware}
    objective.log_ratio_mean: 0.4      for objective.times.log_ratio_mean
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from .section import kinds, sections_at

_MOVED = {("objective", name): ("objective", "times", name) for name in ("log_ratio_mean", "log_ratio_std")}


def spelled_out(data: Mapping[Any, Any], models: Iterable[type[BaseModel]]) -> dict[Any, Any]:
    """``data``, which describes one of the ``models``, without abbreviations."""
    return _moved(_with_kinds(data, list(models)))


def _with_kinds(data: Mapping[Any, Any], models: list[type[BaseModel]]) -> dict[Any, Any]:
    full: dict[Any, Any] = {}
    for key, value in data.items():
        inner = sections_at(key, models) if isinstance(key, str) else []  # other keys are refused later
        if isinstance(value, str) and any(kinds(section) for section in inner):
            full[key] = {"kind": value}
        else:
            full[key] = _with_kinds(value, inner) if isinstance(value, dict) else value
    return full


def _moved(data: dict[Any, Any]) -> dict[Any, Any]:
    for (section, name), (_, inner, setting) in _MOVED.items():
        outer = data.get(section)
        if not isinstance(outer, dict) or name not in outer or not isinstance(outer.get(inner, {}), dict):
            continue
        rest = {key: value for key, value in outer.items() if key != name}
        data = {**data, section: {**rest, inner: {**outer.get(inner, {}), setting: outer[name]}}}
    return data
