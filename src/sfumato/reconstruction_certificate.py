"""How far a reconstruction can be trusted: methods against a known posterior, and bands on data that was held out.

The twin (``restoration.Twin``) is the user's problem with a prior whose posterior has a closed form: the same operator,
noise and noise levels, an exact denoiser. What a method misses there is the method's fault. What the chosen method
misses on held-out data beyond that is the network's. Whether its draws are of the network's own posterior is tested by
the network's score (``restoration.stein``), which needs no true samples.
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
from sfumato.generate import drawing
from sfumato.model import Model
from sfumato.reconstruction import Reconstruction
from sfumato.reporting import Progress
from sfumato.restoration import Measurement, Operator, Twin
from sfumato.restoration.stein import SteinTest, stein_test
from sfumato.restoration.twin import Exact

LEVELS = (0.5, 0.8, 0.9, 0.95)
AT = LEVELS.index(0.9)
DRAWS = 39  # the fewest with which the ends of every level are order statistics
BINS = 10
_PROJECTIONS = 100
_FEWEST, _FEWEST_HELD_OUT = 2, 4  # problems that are measured however long they take: they give standard errors
_PROMISED = 0.9  # what the widened band shall cover
FEWEST_TO_WIDEN = 9  # samples, below which 1 / (m + 1) is more than the band may leave out, and no factor is known

Run = Callable[[Model, Tensor, int], Reconstruction]
"""``(model, readings (1, *), seed) -> reconstruction`` with ``DRAWS`` draws."""


@dataclass(frozen=True)
class Scores:
    """How a method does on problems whose true samples are known.

    Arguments:
        method: its name.
        coverage: the share of true values within the bands of ``LEVELS``; one that equals draws at an end by chance.
        uncertainty: the standard error of the share within the 90 % band, over the problems; at least that of as many
            independent values, for few problems can all have the same share.
        error: root mean square error of the mean, in data units.
        seconds: for one measurement.
        distance: to the exact posterior, over that of exact draws; nan where it is not known (``sliced``).
        off: of the mean from the exact mean, in standard deviations of the exact posterior; nan where not known.
        problems: how many it was measured on.
        distance_uncertainty: the standard error of the distance, over the problems.
        stein: the test of all draws against the posteriors of the prior; None for operators that are not linear, and
            for noise that is finer than the prior's finest level.
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
    stein: SteinTest | None = None


@dataclass(frozen=True)
class HeldOut:
    """How a model does on held-out samples.

    Arguments:
        scores: over all of them.
        ranks: the share of true values by their rank among the draws, in ``BINS`` equal parts; equal if calibrated.
        widening: the factor on both halves of the 90 % band, chosen on half of the samples (``conformal``); nan where
            they are too few.
        widened: what the bands with the factor cover of the other half, of values whose band has a width; nan without
            a factor.
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
    y = torch.cat([problem.y for problem in posed])
    return [
        _scores(name, rows, centres[0].numel(), _stein(known, Measurement(operator, y[: len(rows)], noise), rows, seed))
        for name, rows in found.items()
    ]


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
    bins, needed, readings = [], [], []
    for i, x in enumerate(samples.double()):
        if i >= _FEWEST_HELD_OUT and allowance.left() < rows[-1].seconds:
            break
        y = _readings(operator, x[None], noise, g)
        began = time.monotonic()
        result = run(model, y, seed + i)
        seconds = time.monotonic() - began
        rank = ranks(model.spec.transform.round_to_levels(result.draws[0].double()), x, g)
        error = float((result.mean[0].double() - x).pow(2).mean())
        rows.append(_Row(covered(rank), error, seconds, model.spec.encode(result.draws[0])))
        bins.append((rank / (DRAWS + 1) * BINS).long().flatten())
        needed.append(stretch(result, x).flatten())
        readings.append(y)
        if progress is not None:
            progress(i + 1, len(samples))
    widening, other = conformal(torch.stack(needed[::2])), torch.stack(needed[1::2])
    counts = torch.bincount(torch.cat(bins), minlength=BINS).double()
    shares = (counts / counts.sum()).tolist()
    widened = math.nan if math.isnan(widening) else _share(other, widening)
    stein = _stein(model, Measurement(operator, torch.cat(readings), noise), rows, seed)
    return HeldOut(_scores(method, rows, samples[0].numel(), stein), tuple(shares), widening, widened, len(rows))


def _stein(model: Model, measured: Measurement, rows: "Sequence[_Row]", seed: int) -> SteinTest | None:
    """The test of the draws against the model's own posteriors."""
    if not measured.operator.linear:
        return None
    denoiser = model.sampling_denoiser()
    inner, draws = (
        measured.in_model_units(model.spec.decode_unclipped),
        torch.stack([row.draws.flatten(1) for row in rows]),
    )
    with drawing(denoiser):
        return stein_test(denoiser, inner, draws.reshape(*draws.shape[:2], *inner.operator.input_shape), seed)


def unbounded(spec: DataSpec) -> DataSpec:
    """The same contract without bounds and levels, which the Gaussians of a twin do not keep.

    Raises InputError for data whose units are not those of a model by one shift and scale per feature.
    """
    if not isinstance(spec.transform, Affine):
        raise InputError("twin: columns of mixed kinds have no posterior of closed form; use numbers alone")
    return replace(spec, transform=Affine(spec.transform.shift, spec.transform.scale))


def ranks(draws: Float[Tensor, "n *s"], x: Float[Tensor, "*s"], generator: torch.Generator) -> Float[Tensor, "*s"]:
    """How many draws each value of x is above; any number among those that equal it, for values on levels are often so.

    From 0 to n, each equally likely where x is a further draw of the same law, whatever the law.
    """
    ties = (draws == x).sum(0) + 1
    return (draws < x).sum(0) + (ties * torch.rand(ties.shape, generator=generator, dtype=torch.float64)).floor()


def covered(rank: Float[Tensor, "*s"]) -> Float[Tensor, "levels"]:
    """The share of values between the order statistics of ``DRAWS`` draws that enclose each of ``LEVELS``."""
    ends = [round((1 - level) / 2 * (DRAWS + 1)) for level in LEVELS]
    return torch.stack([((low <= rank) & (rank <= DRAWS - low)).double().mean() for low in ends])


def stretch(result: Reconstruction, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """The factor on both halves of the 90 % band around the mean that just reaches each value of x.

    It is 0 at the mean, infinite where one half has no width, and nan where both have none: no factor changes those.
    """
    low, high = (end[0].double() for end in result.band(_PROMISED))
    mean = result.mean[0].double()
    reach = torch.where(x < mean, mean - low, high - mean).clamp(min=0)
    gap = (x - mean).abs()
    return torch.where(high == low, math.nan, torch.where(gap == 0, 0.0, gap / reach))


def conformal(needed: Float[Tensor, "m n"]) -> float:
    """The least factor with which bands cover 90 % of the values of a further sample, on average over m + 1 samples.

    The values of one sample depend on each other, so samples are exchangeable and values are not. With R the mean over
    samples of the share that needs a larger factor, ``(m R + 1) / (m + 1) <= 1 - 0.9`` is enough. No factor is for
    less than ``FEWEST_TO_WIDEN`` samples: nan.

    Arguments:
        needed: the factor that each value needs (``stretch``), a row per sample; nan for values that do not count.

    References:
        Angelopoulos et al. 2024, Conformal risk control, eq. 4.
    """
    m = len(needed)
    if m < FEWEST_TO_WIDEN:
        return math.nan
    counts = ~needed.isnan()
    weights = counts / counts.sum(1, keepdim=True).clamp(min=1)
    order = needed[counts].argsort()
    covers = weights[counts][order].cumsum(0) + float((~counts.any(1)).sum())  # samples without values miss none
    at = int((covers < _PROMISED * (m + 1) - 1e-9).sum())
    return float(needed[counts][order][at]) if at < len(order) else math.inf


def _share(needed: Float[Tensor, "m n"], factor: float) -> float:
    """The mean share of the values that the factor reaches, of those that count."""
    counts = ~needed.isnan()
    return float(((needed <= factor).sum(1) / counts.sum(1)).nanmean())


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
    """A method on one problem: the fields are those of ``Scores``, ``error`` squared; draws in model units (n, *)."""

    inside: Tensor
    error: float
    seconds: float
    draws: Tensor
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
        rank = ranks(result.draws[0], self.truth, torch.Generator().manual_seed(seed))
        return _Row(covered(rank), error, seconds, draws, distance, off)


def _scores(name: str, rows: Sequence[_Row], values: int, stein: SteinTest | None) -> Scores:
    """The scores of a method on problems of so many ``values`` each."""
    shares = torch.stack([row.inside for row in rows])
    numbers = torch.tensor([(row.error, row.seconds, row.distance, row.off) for row in rows], dtype=torch.float64)
    error, seconds, distance, off = numbers.mean(0).tolist()
    unsure = [
        float(each.std()) / math.sqrt(len(rows)) if len(rows) > 1 else math.nan
        for each in (shares[:, AT], numbers[:, 2])
    ]
    coverage = tuple(shares.mean(0).tolist())
    independent = math.sqrt(_PROMISED * (1 - _PROMISED) / (len(rows) * values))
    return Scores(
        name,
        coverage,
        max(unsure[0], independent),
        math.sqrt(error),
        seconds,
        distance,
        off,
        len(rows),
        unsure[1],
        stein,
    )
