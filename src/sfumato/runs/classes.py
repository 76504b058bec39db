"""The classes of the samples that ``sample`` draws, and the numbers that these are given with."""

from dataclasses import replace

import torch
from torch import Tensor

from sfumato.data import in_units
from sfumato.denoisers import NOT_GIVEN, Condition
from sfumato.errors import InputError
from sfumato.generative_model import GenerativeModel

from .measurement_files import read_mask, read_numbers, read_sample
from .settings import SampleSettings


def with_classes(settings: SampleSettings, model: GenerativeModel) -> tuple[SampleSettings, Condition | None]:
    """The settings with their number of samples, and the condition of these; None for an unconditional model.

    Asked-for classes come one after another, ``per_class`` samples of each, or as near to equally many of each as
    ``count`` allows. So do asked-for numbers, within each class.

    Raises:
        InputError: classes or numbers for a model without them, unknown ones, or fewer samples than are asked for.
    """
    names = list(dict.fromkeys(settings.classes))
    given = [numbers_in(text) for text in dict.fromkeys(settings.conditions)]
    if settings.per_class is not None and not names:
        names = list(model.spec.class_names) if model.made_by is not None and model.made_by.takes_classes else [""]
    seen = seen_by(settings, model)
    if not names and not given:
        return settings, model.condition(settings.count, seen=seen)
    each_class: list[str | None] = [*names] or [None]
    each_given: list[dict[str, float] | None] = [*given] or [None]
    asked = [(name, row) for name in each_class for row in each_given]
    for name, row in asked:
        model.condition(1, name, given=row)  # refuses before anything is counted
    count = settings.count if settings.per_class is None else settings.per_class * len(asked)
    if count < len(asked):
        what = "classes" if not given else "conditions" if not names else "classes and conditions"
        raise InputError(f"-n {count}: is less than the {len(asked)} {what}; give at least one sample of each")
    chosen = [asked[i * len(asked) // count] for i in range(count)]
    classes = None if not names else [name for name, _ in chosen if name is not None]
    numbers = None if not given else [row for _, row in chosen if row is not None]
    return replace(settings, count=count), model.condition(count, classes, given=numbers, seen=seen)


def seen_by(settings: SampleSettings, model: GenerativeModel) -> Tensor | None:
    """What the files say that is known of the samples; NaN where the mask is set. Raises InputError as readers do."""
    if settings.seen is None:
        return None
    if settings.mask is not None:
        sample = read_sample("--seen", settings.seen, model.spec)
        return sample.masked_fill(read_mask("--mask", settings.mask, model.spec), torch.nan)
    values = read_numbers("--seen", settings.seen)
    return values.view(*(1 for _ in range(len(model.spec.shape) - values.ndim)), *values.shape)


def numbers_in(text: str) -> dict[str, float]:
    """The numbers in "a=1.5,b=2", by their names. Raises InputError for anything else."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.rpartition("="))
        try:
            number = float(value)
        except ValueError:
            equals, number = "", 0.0
        if not equals or not name or name in found:
            raise InputError(f"--condition: '{text}' is not understood; give a number for each name, as a=1.5,b=2")
        found[name] = number
    return found


def names_of(cond: Condition | None, model: GenerativeModel) -> list[str]:
    """The name of each sample's class, "" where it is not given; empty for samples without classes."""
    if cond is None or cond.classes is None:
        return []
    names = model.spec.class_names
    return ["" if index == NOT_GIVEN else names[index] for index in cond.classes.tolist()]


def numbers_of(cond: Condition | None, model: GenerativeModel) -> Tensor | None:
    """The numbers (n, k) that samples are given with, in their own units, NaN where one is not given; None without."""
    if cond is None or cond.vector is None:
        return None
    values = in_units(model.spec.conditions, cond.vector)
    return values if cond.vector_given is None else values.masked_fill(~cond.vector_given.cpu(), torch.nan)


def headings(classes: list[str], numbers: Tensor | None, model: GenerativeModel) -> list[str]:
    """What each sample was asked to be, for the rows of a picture; empty where nothing was asked for."""
    if numbers is None:
        return classes
    names = [each.name for each in model.spec.conditions]
    told = [
        ", ".join(f"{name}={x:g}" for name, x in zip(names, row, strict=True) if x == x) for row in numbers.tolist()
    ]
    return told if not classes else [f"{name}, {text}" for name, text in zip(classes, told, strict=True)]
