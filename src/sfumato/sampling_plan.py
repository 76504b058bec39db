"""Which sampler a model uses, and how it will draw."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato import sampling
from sfumato.core import Prediction, Process
from sfumato.errors import InputError
from sfumato.generate import TOLERANCE, Watch
from sfumato.model_folder import Sampled, TableKey
from sfumato.reporting import Progress
from sfumato.sampling import Tableau, choice, methods
from sfumato.sampling.methods import ADAPTIVE


@dataclass(frozen=True)
class SamplingPlan:
    """How samples will be drawn.

    Arguments:
        label: short, for a file name, such as "auto-20" or "latents-3".
        text: for messages, such as "by heun" or "through 3 latents".
        record: for machine-readable results.
        sampler: the name of the sampler, such as "auto"; "latents" for a hierarchical VAE.
        method: the method that this name stands for, such as "adams3".
        evaluations: evaluations of the network per sample; None if the sampler chooses them as it goes.
        table: the table of the sampler; None for the adaptive sampler, and for a model without samplers.
    """

    label: str
    text: str
    record: Mapping[str, Any]
    sampler: str
    method: str
    evaluations: int | None
    table: Tableau | None = None

    def counting(self, count: int, batch: int, progress: Progress) -> Watch | None:
        """A ``watch`` that reports evaluations, done and in all; None for a plan without a table."""
        if self.table is None:
            return None
        each, batches = self.table.evaluations, -(-count // batch)

        def watch(first: int, row: int, t: Tensor, x: Tensor, prediction: Prediction) -> None:
            progress(each * (first // batch) + row + 1, each * batches)

        return watch


MOST_STEPS = 5_000  # a table of N rows has 2 N^2 numbers: 400 MB here


@dataclass(frozen=True)
class SamplerChoice:
    """A sampler and its settings; None leaves a setting to the model.

    Arguments:
        sampler: one of ``sampling.methods.NAMES``; None is the sampler that has the other settings, or the model's.
        steps: evaluations of the network per sample.
        eta: noise that "ddim" adds, 0 to 1.
        tolerance: of the "adaptive" sampler.
    """

    sampler: str | None = None
    steps: int | None = None
    eta: float | None = None
    tolerance: float | None = None

    def completed(self, sampler: str, steps: int) -> "SamplerChoice":
        """The same choice, with the model's own ``sampler`` and ``steps`` where nothing else is chosen.

        Raises:
            InputError: settings that the sampler does not have.
        """
        if self.sampler is not None:
            sampler = self.sampler
        elif self.eta is not None:
            sampler = "ddim"
        elif self.tolerance is not None:
            sampler = ADAPTIVE
        if sampler == ADAPTIVE and (self.steps is not None or self.eta is not None):
            raise InputError("steps, eta: adaptive takes the steps it needs; give it a tolerance")
        if sampler != ADAPTIVE and self.tolerance is not None:
            raise InputError(f"tolerance: {sampler} has none; use the adaptive sampler, or steps")
        if self.steps is not None and self.steps > MOST_STEPS:
            raise InputError(
                f"steps: {self.steps:,} is too many, as a table has a column for each step; give at most {MOST_STEPS:,}"
            )
        if sampler != "ddim" and self.eta is not None:
            raise InputError(f"eta: {sampler} has none; use the ddim sampler")
        tolerance = TOLERANCE if self.tolerance is None else self.tolerance
        return SamplerChoice(sampler, steps if self.steps is None else self.steps, self.eta, tolerance)

    def table(
        self, process: Process, fitted: Mapping[TableKey, Tableau], chosen: Mapping[int, str], sampled: Sampled
    ) -> Tableau:
        """The table of a completed choice.

        For "auto" it is a ``fitted`` one, else that of a ``chosen`` method, else that of the fixed rule.

        Raises:
            InputError: an unknown sampler, "adaptive", and steps that are too few or too many.
        """
        assert self.sampler is not None and self.steps is not None  # noqa: PT018  # completed
        key = TableKey(self.steps, sampled)
        if self.sampler == "auto" and key in fitted:
            return fitted[key]
        budget = choice.nearest(list(chosen), self.steps) if self.sampler == "auto" else None
        if budget is not None:
            with suppress(InputError):  # what was chosen for more evaluations may not run with these
                return choice.table(process, chosen[budget], self.steps)
        with torch.no_grad():  # a schedule may be learned; a table is numbers
            if self.eta is not None:
                return sampling.ddim(process, methods.in_time(process, self.steps), self.eta)
            return methods.tableau(process, self.sampler, self.steps)

    def plan(self, table: Tableau | None) -> SamplingPlan:
        """The plan of a completed choice, with its table, or None for "adaptive"."""
        assert self.sampler is not None
        if table is None:
            record: dict[str, Any] = {"sampler": self.sampler, "eta": None}
            label = f"{self.sampler}-{self.tolerance:g}"
            return SamplingPlan(label, f"by {self.sampler}", record, self.sampler, self.sampler, None)
        name = table.name if self.sampler == "auto" else self.sampler
        text = f"by auto: {name}" if self.sampler == "auto" else f"by {name}"
        label = f"{self.sampler}-{self.steps}"
        if self.eta is not None:
            text, label = f"{text} with eta {self.eta:g}", f"{label}-eta{self.eta:g}"
        record = {"sampler": name, "eta": self.eta}
        return SamplingPlan(label, text, record, self.sampler, table.name, table.evaluations, table)
