"""The conditioning section: the conditions of a model besides the noise level."""

from __future__ import annotations

from typing import Literal

from sfumato.data import DataSpec, Samples
from sfumato.denoisers import Condition
from sfumato.errors import InputError

from .section import Fraction, Section


class NoConditioning(Section):
    """An unconditional model."""

    kind: Literal["none"] = "none"

    @property
    def label_dropout(self) -> float:
        """The share of training samples that are seen without their condition."""
        return 0.0

    def resolved(self, spec: DataSpec) -> NoConditioning:
        """This section: it depends on no data."""
        return self

    def classes(self, spec: DataSpec) -> int:
        """The number of classes in the network's condition."""
        return 0

    def condition(self, samples: Samples) -> Condition | None:
        """The condition of samples, one row per sample; None for an unconditional model."""
        return None


class ClassConditioning(Section):
    """A model of data given its class.

    Arguments:
        dropout: the share of training samples that are seen without their class, so that the model also knows all
            classes together, which classifier-free guidance needs (Ho & Salimans 2022, algorithm 1).
    """

    kind: Literal["classes"] = "classes"
    dropout: Fraction = 0.1

    @property
    def label_dropout(self) -> float:
        """The share of training samples that are seen without their class."""
        return self.dropout

    def resolved(self, spec: DataSpec) -> ClassConditioning:
        """This section.

        Raises:
            InputError: the data has no labels or only one class, or a class has one sample, which cannot be both
                trained on and held out.
        """
        if len(spec.class_names) < 2:
            found = "has no labels" if not spec.class_names else f"has one class, {spec.class_names[0]}"
            raise InputError(
                f"conditioning: {spec.source} {found}; give a folder with a sub-folder per class, or name the labels "
                "with data.labels, or give conditioning=none"
            )
        for name, count in zip(spec.class_names, spec.class_counts, strict=True):
            if count < 2:
                raise InputError(
                    f"conditioning: class '{name}' of {spec.source} has {count} sample, too few to train on and to "
                    "hold out; add samples of it, remove it, or give conditioning=none"
                )
        return self

    def classes(self, spec: DataSpec) -> int:
        """The number of classes."""
        return len(spec.class_names)

    def condition(self, samples: Samples) -> Condition | None:
        """The classes of samples.

        Raises:
            InputError: samples without labels.
        """
        if samples.labels is None:
            raise InputError("conditioning: these samples have no labels; give labels, or conditioning=none")
        return Condition(classes=samples.labels)


class AutoConditioning(Section):
    """Classes where the data has labels of several, else none."""

    kind: Literal["auto"] = "auto"

    def resolved(self, spec: DataSpec) -> NoConditioning | ClassConditioning:
        """The section for this data. Raises InputError as ``ClassConditioning`` does."""
        return ClassConditioning().resolved(spec) if len(spec.class_names) > 1 else NoConditioning()


ConditioningSection = NoConditioning | ClassConditioning | AutoConditioning
