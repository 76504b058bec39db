"""Score data under a model: its likelihood by two methods, and how unlike the training data each sample is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sfumato.generative_model import GenerativeModel
from sfumato.likelihood import Bound, Estimate, Exact
from sfumato.reporting import SILENT, Reporter, duration
from sfumato.world import ALONE, World

from .likelihood import Settings, encode, forecast, measure_bound, measure_flow, shared
from .out_of_distribution import AUROC, Reference, auroc, compressed_bits, score_norms

SCORES = ("bits", "typicality", "complexity", "norms")
"""The out-of-distribution scores, in the order in which they are reported; higher is less like the training data."""


@dataclass(frozen=True, eq=False)
class DataToScore:
    """Data, with its name.

    Arguments:
        values: (n, *shape), in data units.
        name: its name in messages, such as "the held-out part of digits".
    """

    values: Shaped[Tensor, "n *s"]
    name: str


@dataclass(frozen=True, eq=False)
class Score:
    """The likelihood of a data set under a model.

    Bits per dimension are in the data's own units: of probabilities if the data has levels, else of densities.

    Arguments:
        name: the name of the data.
        bound: the bound (negative ELBO), with its terms.
        flow: the likelihood along the probability flow; None where it was not computed.
        scores: the out-of-distribution scores (n,) by name; which ones depends on the model and the data.
        against: the score of the second data set; None without one.
    """

    name: str
    bound: Bound
    flow: Exact | None
    scores: Mapping[str, Float[Tensor, "n"]]
    against: "Score | None" = field(default=None, repr=False)

    @property
    def bits_per_dim(self) -> float:
        """The mean of the bound, in bits per dimension."""
        return self.bound.estimate.mean

    @property
    def auroc(self) -> dict[str, AUROC]:
        """How well each score separates the data from ``against``; empty without it."""
        if self.against is None:
            return {}
        theirs = self.against.scores
        return {name: auroc(score, theirs[name]) for name, score in self.scores.items() if name in theirs}

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {len(self.bound.bits)} samples, bits/dim",
            _line("bound (-ELBO)", self.bound.estimate),
            *([] if self.flow is None else [_line("flow (ODE)", self.flow.estimate)]),
        ]
        return "\n".join(lines + [f"  AUROC by {name:<13}{found.value:9.3f}" for name, found in self.auroc.items()])


def _line(label: str, estimate: Estimate) -> str:
    error = f" ± {estimate.error:.4f}" if math.isfinite(estimate.error) else ""
    return f"  {label:<22}{estimate.mean:9.4f}{error}"


def score(
    model: GenerativeModel,
    data: DataToScore,
    settings: Settings | None = None,
    *,
    flow: bool = True,
    reference: Shaped[Tensor, "m *s"] | None = None,
    against: DataToScore | None = None,
    reporter: Reporter = SILENT,
    world: World = ALONE,
) -> Score:
    """Compute the likelihood of ``data`` under ``model``, and out-of-distribution scores.

    Arguments:
        model: the model.
        data: the data to score.
        settings: how to measure; by default what suits the data.
        flow: whether to compute the likelihood along the flow, if the model has one.
        reference: training data, in data units; two of the scores compare with it.
        against: a second data set, which the scores are tested to separate from the first.
        reporter: receives a forecast of the time, and progress.
        world: the processes that share the work; each returns all numbers.

    Returns:
        The score of ``data``, with that of ``against``.

    Raises:
        InputError: data of another shape or range than the model's, or settings that do not fit the model.
    """
    settings = settings or Settings.suited_to(model.spec)
    flow = flow and model.can("flow")
    x_0 = encode(model, data.values, data.name)
    x_other = None if against is None else encode(model, against.values, against.name)
    x_reference = None if reference is None else encode(model, reference, "training data")
    everything = torch.cat([x for x in (x_0, x_other, x_reference) if x is not None])
    seconds = forecast(model, everything, settings, False, world)
    if flow:
        with_flow, without = (forecast(model, x_0, settings, each, world) for each in (True, False))
        seconds += with_flow - without
    noun = "sample" if len(x_0) == 1 else "samples"
    reporter.info(f"scoring {len(x_0)} {noun} of {data.name}: about {duration(seconds)}")

    measuring = _Measuring(model, settings, reporter, world)
    bound, exact, known = measuring.bound(x_0, "bound"), None, None
    if flow:
        with reporter.task("flow") as task:
            exact = measure_flow(model, x_0, settings, task.count, world)
    if x_reference is not None:
        known = Reference(measuring.bound(x_reference, "training data").bits, measuring.norms(x_reference))
    scores = measuring.scores(data.values, x_0, bound, known)
    other = None
    if against is not None and x_other is not None:
        foreign = measuring.bound(x_other, against.name)
        other = Score(against.name, foreign, None, measuring.scores(against.values, x_other, foreign, known))
    return Score(data.name, bound, exact, scores, other)


@dataclass(frozen=True)
class _Measuring:
    """One model, measured in one way."""

    model: GenerativeModel
    settings: Settings
    reporter: Reporter
    world: World

    def bound(self, x_0: Tensor, label: str) -> Bound:
        """The bound of samples in model units."""
        with self.reporter.task(label) as task:
            return measure_bound(self.model, x_0, self.settings, task.count, self.world)

    def norms(self, x_0: Tensor) -> Tensor | None:
        """The norms of the score; None for a model without one."""
        if self.model.denoiser is None:
            return None
        return score_norms(shared(self.model.denoiser, self.world), x_0, self.settings.batch)

    def scores(self, values: Tensor, x_0: Tensor, bound: Bound, known: Reference | None) -> dict[str, Tensor]:
        """The out-of-distribution scores of ``values``, in model units ``x_0``; ``known`` is training data."""
        found = {"bits": bound.bits}
        compressed = compressed_bits(values, self.model.spec)
        if compressed is not None:
            found["complexity"] = bound.bits - compressed
        if known is not None:
            found["typicality"] = known.typicality(bound.bits)
            norms = self.norms(x_0)
            if norms is not None:
                found["norms"] = known.norm_distance(norms)
        return {name: found[name] for name in SCORES if name in found}
