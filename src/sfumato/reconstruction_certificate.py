"""How far a reconstruction can be trusted: methods against a known posterior, and bands on data that was held out.

The twin (``restoration.Twin``) is the user's problem with a prior whose posterior has a closed form: the same operator,
noise and noise levels, an exact denoiser. What a method misses there is the method's fault. What the chosen method
misses on held-out data beyond that is the network's.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.allowance import ENDLESS, Allowance
from sfumato.data import Affine, DataSpec
from sfumato.denoisers import ExactDenoiser
from sfumato.errors import InputError
from sfumato.model import Model
from sfumato.reconstruction import Reconstruction
from sfumato.reporting import Progress
from sfumato.restoration import Measurement, Operator, Twin
from sfumato.restoration.twin import Exact

LEVELS = (0.5, 0.8, 0.9, 0.95)
AT = LEVELS.index(0.9)
DRAWS = 39  # the fewest with which the ends of every level are order statistics
BINS = 10
_PROJECTIONS = 100
_FEWEST, _FEWEST_HELD_OUT = 2, 4  # problems that are measured however long they take: they give standard errors

Run = Callable[[Model, Tensor, int], Reconstruction]
"""``(model, readings (1, *), seed) -> reconstruction`` with ``DRAWS`` draws."""


@dataclass(frozen=True)
class Scores:
    """How a method does on problems whose true samples are known.

    Arguments:
        method: its name.
        coverage: the share of true values within the bands of ``LEVELS``.
        uncertainty: the standard error of the share within the 90 % band, over the problems.
        error: root mean square error of the mean, in data units.
        seconds: for one measurement.
        distance: to the exact posterior, over that of exact draws; nan where it is not known (``sliced``).
        off: of the mean from the exact mean, in standard deviations of the exact posterior; nan where not known.
        problems: how many it was measured on.
        distance_uncertainty: the standard error of the distance, over the problems.
    """

    method: str
    coverage: tuple[float, ...]
    uncertainty: float
    error: float
    seconds: float
    distance: float = math.nan
    off: float = math.nan
    problems: int = 0
    distance_uncertainty: float = math.nan


@dataclass(frozen=True)
class HeldOut:
    """How a model does on held-out samples.

    Arguments:
        scores: over all of them.
        ranks: the share of true values by their rank among the draws, in ``BINS`` equal parts; equal if calibrated.
        widening: the factor on both halves of the 90 % band that makes it cover 90 % of the first half of the samples.
        widened: what the band with the factor covers of the other half.
        problems: the number of samples.
    """

    scores: Scores
    ranks: tuple[float, ...]
    widening: float
    widened: float
    problems: int


def compare(
    model: Model,
    centres: Tensor,
    operator: Operator,
    noise: float,
    runs: dict[str, Run],
    problems: int,
    seed: int,
    progress: Progress | None = None,
    allowance: Allowance = ENDLESS,
) -> list[Scores]:
    """Every method on problems of the twin.

    The first problem says how long each method takes. Then the fastest goes first with its part of the time, and what
    it leaves is for the slower ones. All start from the first problem, so each two share those of the one with fewer.

    Arguments:
        model: the model, for its process and its data contract.
        centres: samples in data units that the twin is made of.
        operator: a linear operator on samples in data units.
        noise: the standard deviation of the readings.
        runs: the methods by name.
        problems: how many, at most.
        seed: random seed.
        progress: called with the number of problems of all methods that are done or given up.
        allowance: the time; each method has 2 problems at least.

    Raises:
        InputError: an operator that is not linear, or samples that no twin is made of.
    """
    twin = Twin.of(model.spec.encode(centres))
    known = Model(ExactDenoiser(model.denoiser.process, twin.mixture), unbounded(model.spec))
    g = torch.Generator().manual_seed(seed)
    posed = [_Problem.of(twin, model.spec, operator, noise, g) for _ in range(problems)]
    found = {name: [posed[0].row(run, known, seed)] for name, run in runs.items()}
    total = problems * len(runs)
    order = sorted(runs, key=lambda name: found[name][0].seconds)
    for place, name in enumerate(order):
        rows, part = found[name], allowance.share(1 / (len(order) - place))
        while len(rows) < min(problems, _FEWEST) or (len(rows) < problems and part.left() > rows[0].seconds):
            rows.append(posed[len(rows)].row(runs[name], known, seed + len(rows)))
            if progress is not None:
                progress(place * problems + len(rows) + len(order) - place - 1, total)
    if progress is not None:
        progress(total, total)
    return [_scores(name, rows) for name, rows in found.items()]


def held_out(
    model: Model,
    samples: Tensor,
    operator: Operator,
    noise: float,
    method: str,
    run: Run,
    seed: int,
    progress: Progress | None = None,
    allowance: Allowance = ENDLESS,
) -> HeldOut:
    """A method with the network, on readings simulated from samples that it was not trained on.

    Arguments:
        model: the model.
        samples: in data units (M, *shape), at least 4.
        operator: on samples in data units.
        noise: the standard deviation of the readings.
        method: the name of the method.
        run: the method.
        seed: random seed.
        progress: called with the number of samples that are done.
        allowance: the time; 4 samples are measured at least.

    Raises:
        InputError: fewer than 4 samples.
    """
    if len(samples) < 4:
        raise InputError(f"held out: {len(samples)} samples are too few to halve and compare; give at least 4")
    g = torch.Generator().manual_seed(seed)
    rows: list[_Row] = []
    ranks, needed = [], []
    for i, x in enumerate(samples.double()):
        if i >= _FEWEST_HELD_OUT and allowance.left() < rows[-1].seconds:
            break
        y = _readings(operator, x[None], noise, g)
        began = time.monotonic()
        result = run(model, y, seed + i)
        seconds = time.monotonic() - began
        draws, mean = model.spec.transform.round_to_levels(result.draws[0].double()), result.mean[0].double()
        error = float((mean - x).pow(2).mean())
        rows.append(_Row(covered(draws, x), error, seconds))
        ties = (draws == x).sum(0) + 1  # values on levels and at bounds are often equal: any rank among them
        rank = (draws < x).sum(0) + (ties * torch.rand(ties.shape, generator=g)).floor()
        ranks.append((rank / (len(draws) + 1) * BINS).long().flatten())
        needed.append(stretch(result, x).flatten())
        if progress is not None:
            progress(i + 1, len(samples))
    first, other = torch.stack(needed[::2]), torch.stack(needed[1::2])
    widening = float(torch.quantile(first, min(0.9 * (1 + 1 / len(first)), 1.0)))
    counts = torch.bincount(torch.cat(ranks), minlength=BINS).double()
    shares = (counts / counts.sum()).tolist()
    widened = float((other <= widening).double().mean())
    return HeldOut(_scores(method, rows), tuple(shares), widening, widened, len(rows))


def unbounded(spec: DataSpec) -> DataSpec:
    """The same contract without bounds and levels, which the Gaussians of a twin do not keep.

    Raises InputError for data whose units are not those of a model by one shift and scale per feature.
    """
    if not isinstance(spec.transform, Affine):
        raise InputError("twin: columns of mixed kinds have no posterior of closed form; use numbers alone")
    return replace(spec, transform=Affine(spec.transform.shift, spec.transform.scale))


def covered(draws: Float[Tensor, "n *s"], x: Float[Tensor, "*s"]) -> Float[Tensor, "levels"]:
    """The share of the values of x between the order statistics of the draws that enclose each of ``LEVELS``."""
    n = len(draws)
    low = torch.tensor([max((1 - level) / 2 * (n + 1) - 1, 0.0) / (n - 1) for level in LEVELS], dtype=torch.float64)
    ends = torch.quantile(draws.double(), torch.cat((low, 1 - low)), dim=0)
    inside = (ends[: len(LEVELS)] <= x) & (x <= ends[len(LEVELS) :])
    return inside.flatten(1).double().mean(1)


def stretch(result: Reconstruction, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """The factor on both halves of the 90 % band around the mean that just reaches each value of x; 0 at the mean."""
    low, high = (end[0].double() for end in result.band(0.9))
    mean = result.mean[0].double()
    reach = torch.where(x < mean, mean - low, high - mean).clamp(min=1e-12)
    gap = (x - mean).abs()
    return torch.where(gap == 0, 0.0, gap / reach)


def sliced(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """The root mean square of the Wasserstein-2 distance over fixed random projections; m is a multiple of n."""
    directions = torch.randn(a.shape[1], _PROJECTIONS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    p, q = ((x.double() @ directions).sort(0).values for x in (a, b))
    return float((p.repeat_interleave(len(q) // len(p), 0) - q).pow(2).mean().sqrt())


def _readings(operator: Operator, x: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    y = operator(x.double())
    return y + noise * torch.randn(y.shape, generator=generator, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class _Row:
    """A method on one problem: the fields are those of ``Scores``, ``error`` squared."""

    inside: Tensor
    error: float
    seconds: float
    distance: float = math.nan
    off: float = math.nan


@dataclass(frozen=True, eq=False)
class _Problem:
    """A sample of the twin (*shape) in data units, its readings, and what its posterior is."""

    spec: DataSpec
    truth: Tensor
    y: Tensor
    exact: Exact
    floor: float

    @classmethod
    def of(cls, twin: Twin, spec: DataSpec, operator: Operator, noise: float, generator: torch.Generator) -> "_Problem":
        truth = spec.decode_unclipped(twin.sample(1, generator).reshape(1, *spec.model_shape))
        y = _readings(operator, truth, noise, generator)
        inner = Measurement(operator, y, noise).in_model_units(spec.decode_unclipped)
        exact = twin.posterior(inner, 10 * DRAWS, generator)
        floor = sliced(twin.posterior(inner, DRAWS, generator).draws, exact.draws)
        return cls(spec, truth[0], y, exact, floor)

    def row(self, run: Run, model: Model, seed: int) -> _Row:
        began = time.monotonic()
        result = run(model, self.y, seed)
        seconds = time.monotonic() - began
        draws = self.spec.encode(result.draws[0].double()).flatten(1)
        off = float(((draws.mean(0) - self.exact.mean) / self.exact.std).pow(2).mean().sqrt())
        error = float((result.mean[0] - self.truth).pow(2).mean())
        distance = sliced(draws, self.exact.draws) / self.floor
        return _Row(covered(result.draws[0], self.truth), error, seconds, distance, off)


def _scores(name: str, rows: Sequence[_Row]) -> Scores:
    shares = torch.stack([row.inside for row in rows])
    numbers = torch.tensor([(row.error, row.seconds, row.distance, row.off) for row in rows], dtype=torch.float64)
    error, seconds, distance, off = numbers.mean(0).tolist()
    unsure = [
        float(each.std()) / math.sqrt(len(rows)) if len(rows) > 1 else math.nan
        for each in (shares[:, AT], numbers[:, 2])
    ]
    coverage = tuple(shares.mean(0).tolist())
    return Scores(name, coverage, unsure[0], math.sqrt(error), seconds, distance, off, len(rows), unsure[1])
