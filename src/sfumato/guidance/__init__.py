"""Guidance: denoisers around denoisers that go further in the direction in which one model differs from a worse one."""

from .extrapolated import Autoguided as Autoguided
from .extrapolated import ClassifierFree as ClassifierFree
from .extrapolated import Interval as Interval
