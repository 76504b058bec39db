"""The classes of the samples that ``sample`` draws."""

from dataclasses import replace

from sfumato.denoisers import NOT_GIVEN, Condition
from sfumato.errors import InputError
from sfumato.generative_model import GenerativeModel

from .settings import SampleSettings


def with_classes(settings: SampleSettings, model: GenerativeModel) -> tuple[SampleSettings, Condition | None]:
    """The settings with their number of samples, and the condition of these; None for an unconditional model.

    Asked-for classes come one after another, ``per_class`` samples of each, or as near to equally many of each as
    ``count`` allows.

    Raises:
        InputError: classes for a model without classes, an unknown class, or fewer samples than classes.
    """
    names = list(dict.fromkeys(settings.classes))
    if settings.per_class is not None and not names:
        names = list(model.spec.class_names) if model.made_by is not None and model.made_by.takes_classes else [""]
    if not names:
        return settings, model.condition(settings.count)
    model.condition(len(names), names)  # refuses before anything is counted
    count = settings.count if settings.per_class is None else settings.per_class * len(names)
    if count < len(names):
        raise InputError(f"-n {count}: is less than the {len(names)} classes; give at least one sample of each")
    cond = model.condition(count, [names[i * len(names) // count] for i in range(count)])
    return replace(settings, count=count), cond


def names_of(cond: Condition | None, model: GenerativeModel) -> list[str]:
    """The name of each sample's class, "" where it is not given; empty for samples without classes."""
    if cond is None or cond.classes is None:
        return []
    names = model.spec.class_names
    return ["" if index == NOT_GIVEN else names[index] for index in cond.classes.tolist()]
