"""Score data under a model: its likelihood by two methods, and how unlike the training data each sample is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float, Shaped
from torch import Tensor

from sfumato.denoisers import Condition, check_rows
from sfumato.generative_model import GenerativeModel
from sfumato.likelihood import Bound, Estimate, Exact, LikelihoodOptions
from sfumato.reporting import SILENT, Reporter, duration
from sfumato.shared_denoiser import shared
from sfumato.world import ALONE, World

from .out_of_distribution import AUROC, Reference, auroc, compressed_bits, score_norms

SCORES = ("bits", "typicality", "complexity", "norms")
"""The out-of-distribution scores, in the order in which they are reported; higher is less like the training data."""


@dataclass(frozen=True, eq=False)
class DataToScore:
    """Data, with its name.

    Arguments:
        values: (n, *shape), in data units.
        name: its name in messages, such as "the held-out part of digits".
        cond: the condition, one row per sample, for a model that takes one.
    """

    values: Shaped[Tensor, "n *s"]
    name: str
    cond: Condition | None = None

    def __post_init__(self) -> None:
        check_rows(self.cond, len(self.values))


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
    options: LikelihoodOptions | None = None,
    *,
    flow: bool = True,
    reference: DataToScore | None = None,
    against: DataToScore | None = None,
    reporter: Reporter = SILENT,
    world: World = ALONE,
) -> Score:
    """Compute the likelihood of ``data`` under ``model``, and out-of-distribution scores.

    Arguments:
        model: the model.
        data: the data to score.
        options: how to measure; by default what suits the data.
        flow: whether to compute the likelihood along the flow, if the model has one.
        reference: training data; two of the scores compare with it.
        against: a second data set, which the scores are tested to separate from the first.
        reporter: receives a forecast of the time, and progress.
        world: the processes that share the work; each returns all numbers.

    Returns:
        The score of ``data``, with that of ``against``.

    Raises:
        InputError: data of another shape or range than the model's, or settings that do not fit the model.
    """
    options = options or LikelihoodOptions.suited_to(model.spec)
    flow = flow and model.can("flow")
    sets = [_Encoded(given, encode(model, given.values, given.name)) for given in (data, against, reference) if given]
    seconds = sum(
        model.forecast(each.x_0, options, flow and each is sets[0], each.data.cond, world=world) for each in sets
    )
    noun = "sample" if len(data.values) == 1 else "samples"
    reporter.info(f"scoring {len(data.values)} {noun} of {data.name}: about {duration(seconds)}")

    measuring = _Measuring(model, options, reporter, world)
    first = sets[0]
    bound, exact, known = measuring.bound(first, "bound"), None, None
    if flow:
        with reporter.task("flow") as task:
            exact = model.flow(first.x_0, options, cond=data.cond, progress=task.count, world=world)
    if reference is not None:
        known = Reference(measuring.bound(sets[-1], reference.name).bits, measuring.norms(sets[-1]))
    scores = measuring.scores(first, bound, known)
    other = None
    if against is not None:
        foreign = measuring.bound(sets[1], against.name)
        other = Score(against.name, foreign, None, measuring.scores(sets[1], foreign, known))
    return Score(data.name, bound, exact, scores, other)


def encode(model: GenerativeModel, values: Shaped[Tensor, "n *s"], name: str) -> Float[Tensor, "n *t"]:
    """Samples in data units as ``model`` takes them: in model units, on its device.

    Raises:
        InputError: names the data, for another shape, and for numbers that are not finite, outside the range that the
            model was trained on, or between its levels.
    """
    model.spec.check(values, name)
    return model.spec.encode(values).to(model.device)


@dataclass(frozen=True, eq=False)
class _Encoded:
    data: DataToScore
    x_0: Tensor  # in model units


@dataclass(frozen=True)
class _Measuring:
    """One model, measured in one way."""

    model: GenerativeModel
    options: LikelihoodOptions
    reporter: Reporter
    world: World

    def bound(self, each: _Encoded, label: str) -> Bound:
        """The bound of the samples."""
        with self.reporter.task(label) as task:
            return self.model.bound(each.x_0, self.options, cond=each.data.cond, progress=task.count, world=self.world)

    def norms(self, each: _Encoded) -> Tensor | None:
        """The norms of the score; None for a model without one."""
        if self.model.denoiser is None:
            return None
        return score_norms(shared(self.model.denoiser, self.world), each.x_0, self.options.batch, each.data.cond)

    def scores(self, each: _Encoded, bound: Bound, known: Reference | None) -> dict[str, Tensor]:
        """The out-of-distribution scores of the samples; ``known`` is training data."""
        found = {"bits": bound.bits}
        compressed = compressed_bits(each.data.values, self.model.spec)
        if compressed is not None:
            found["complexity"] = bound.bits - compressed
        if known is not None:
            found["typicality"] = known.typicality(bound.bits)
            norms = self.norms(each)
            if norms is not None:
                found["norms"] = known.norm_distance(norms)
        return {name: found[name] for name in SCORES if name in found}
