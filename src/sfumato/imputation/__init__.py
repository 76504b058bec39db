"""Gaps of tables, filled with draws from what the rest of a row leaves open."""

from .imputer import SfumatoImputer

__all__ = ["SfumatoImputer"]
