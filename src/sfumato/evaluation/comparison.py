"""Models of one data set, measured on the same samples, so that their differences are paired.

Bits/dim vary far more from sample to sample than from model to model. Where two models score the same n samples, the
mean of the differences d_i has the standard error std(d) / sqrt(n). This error, not the errors of the two means,
decides whether one model is better.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from sfumato.data import TOYS, Dataset, split
from sfumato.data.order import permutation
from sfumato.errors import InputError
from sfumato.generative_model import GenerativeModel
from sfumato.likelihood import Bound, Exact, LikelihoodOptions
from sfumato.numerics.random import derive
from sfumato.reporting import Progress

from .recognition import recognise
from .scoring import encode
from .wasserstein import Ruler

MOST = 2_000  # held-out samples for distances, at most
CLASSIFIED = 4_000  # training samples for the classifier, at most
PAIRS = 8  # of true sets and data, for the floor
# For a forecast: a training step in forward passes, and the seconds that reading, measuring and writing take.
STEP, OVERHEAD = 3.0, 10.0

PARTS = ("bound", "flow", "samples")

Row = dict[str, Any]
PartProgress = Callable[[str, int, int], None]
"""``(part, done, total)``, with one of ``PARTS``."""


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What every model is measured on.

    Arguments:
        dataset: the data.
        train: indices of the training samples (t,).
        held_out: indices of the held-out samples (h,).
        rows: indices of the held-out samples that are scored (n,).
        ruler: measures drawn samples.
        seed: random seed.
    """

    dataset: Dataset
    train: Int64[Tensor, "t"]
    held_out: Int64[Tensor, "h"]
    rows: Int64[Tensor, "n"]
    ruler: Ruler
    seed: int

    @classmethod
    def of(cls, dataset: Dataset, fraction: float, seed: int, count: int, toy: str | None) -> "Yardstick":
        """The yardstick of a data set, a function of these arguments alone.

        True sets are random subsets of the training data, at most half of it, measured against the held-out data.

        Arguments:
            dataset: the data.
            fraction: the fraction that is held out.
            seed: random seed.
            count: held-out samples that are scored, at most.
            toy: the name of the toy that the data is of; true sets and data are then drawn from it.
        """
        spec = dataset.spec
        train, held_out = split(len(dataset), fraction, seed)
        size = spec.layout.compared_samples
        if toy is not None:
            drawn = [
                [spec.encode(TOYS[toy].sample(size, derive(seed, side, k))) for k in range(PAIRS)]
                for side in ("data", "true")
            ]
            ruler = Ruler(drawn[0], drawn[1], seed)
        else:
            size = min(size, max(len(train) // 2, 1))
            data = dataset.encoded(held_out[permutation(len(held_out), seed, "data")[:MOST]])
            subsets = [train[permutation(len(train), seed, "true", k)[:size]] for k in range(PAIRS)]
            ruler = Ruler([data] * PAIRS, [dataset.encoded(subset) for subset in subsets], seed)
        # The same samples as 'sfumato likelihood' scores.
        rows = held_out[permutation(len(held_out), seed, "scored")[:count]].sort().values
        return cls(dataset, train, held_out, rows, ruler, seed)

    def options(self) -> LikelihoodOptions:
        """How likelihoods are measured: by the defaults of 'sfumato likelihood'."""
        return LikelihoodOptions.suited_to(self.dataset.spec, self.seed)


def measure(
    model: GenerativeModel, yardstick: Yardstick, progress: PartProgress = lambda part, done, total: None
) -> Row:
    """Measure a model.

    Arguments:
        model: the model.
        yardstick: what it is measured on.
        progress: called as the parts proceed.

    Returns:
        ``bound``, ``flow``, ``samples`` and ``recognition`` as JSON values; None for what the model does not have and
        for what could not be measured. ``reasons`` gives the error of each of the latter. Bits/dim are in data units.
    """
    options, reasons = yardstick.options(), dict[str, str]()
    x_0 = encode(model, yardstick.dataset.rows(yardstick.rows), "held-out data")

    def attempt(part: str, measured: Callable[[Progress], Row]) -> Row | None:
        try:
            return measured(lambda done, total: progress(part, done, total))
        except (FloatingPointError, InputError) as error:
            reasons[part] = str(error)
            return None

    row: Row = dict.fromkeys((*PARTS, "recognition"))
    if model.can("bound"):
        row["bound"] = attempt("bound", lambda bar: _score(model.bound(x_0, options, progress=bar)))
    if model.can("flow"):
        row["flow"] = attempt("flow", lambda bar: _score(model.flow(x_0, options, progress=bar)))
    sampled = attempt("samples", lambda bar: _sample(model, yardstick, bar))
    if sampled is not None:
        row["samples"], row["recognition"] = sampled["samples"], sampled["recognition"]
    return {**row, "reasons": reasons}


def _score(found: Bound | Exact) -> Row:
    estimate = found.estimate
    if not found.bits.isfinite().all():
        raise FloatingPointError("the bits/dim of some samples are not finite")
    return {
        "bits_per_dim": estimate.mean,
        "standard_error": _finite(estimate.error),
        "method_error": _finite(estimate.method),
        "evaluations": found.evaluations,
        "bits": found.bits.tolist(),
    }


def _sample(model: GenerativeModel, yardstick: Yardstick, progress: Progress) -> Row:
    spec, count = model.spec, yardstick.ruler.count
    started = time.monotonic()
    plan, batch = model.plan(), 256
    drawn = model.sample(count, seed=yardstick.seed, batch=batch, watch=plan.counting(count, batch, progress))
    seconds = time.monotonic() - started
    # Rounded to the levels of the data, if it has any, as in a file.
    drawn = torch.from_numpy(spec.to_array(spec.encode(drawn.double())).astype("float64"))
    fidelity = yardstick.ruler.measure(spec.encode(drawn))
    found = {
        "sampler": plan.sampler,
        "method": plan.method,
        "evaluations": plan.evaluations,
        "seconds": round(seconds, 3),
        **asdict(fidelity),
        "distance_error": _finite(fidelity.distance_error),
        "ratio": _finite(fidelity.ratio),
        "ratio_error": _finite(fidelity.ratio_error),
    }
    return {"samples": found, "recognition": _recognise(drawn, yardstick)}


def _recognise(samples: Tensor, yardstick: Yardstick) -> Row | None:
    dataset, labels = yardstick.dataset, yardstick.dataset.labels
    train = yardstick.train[permutation(len(yardstick.train), yardstick.seed, "classified")[:CLASSIFIED]]
    order = permutation(len(yardstick.held_out), yardstick.seed, "classified")
    train, held_out = dataset.fitting(train), dataset.fitting(yardstick.held_out[order])
    if labels is None or len(set(labels[train].tolist())) < 2:
        return None
    found = recognise(dataset.rows(train), labels[train], dataset.rows(held_out), labels[held_out], samples)
    return asdict(found)


def expected(model: GenerativeModel, yardstick: Yardstick, steps: int) -> float:
    """Seconds that ``steps`` of training and measuring will take. A few passes are timed."""
    x_0 = encode(model, yardstick.dataset.rows(yardstick.rows), "held-out data")
    options = yardstick.options()
    seconds_per_pass = model.forecast(x_0, replace(options, evaluations=1), flow=False) / len(x_0)
    drawn = yardstick.ruler.count + model.spec.layout.gallery_samples
    evaluations = model.plan().evaluations or 1
    scoring = model.forecast(x_0, options, flow=model.can("flow"))
    passes = drawn * evaluations + STEP * steps * model.recipe.training.batch_for(model.spec)
    return OVERHEAD + scoring + seconds_per_pass * passes


@dataclass(frozen=True)
class Difference:
    """A difference with its standard error, which is nan for a single sample."""

    mean: float
    error: float


def paired(values: Sequence[float], best: Sequence[float]) -> Difference:
    """The mean of ``values - best``, sample by sample."""
    differences = torch.tensor(values, dtype=torch.float64) - torch.tensor(best, dtype=torch.float64)
    error = float(differences.std()) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    return Difference(float(differences.mean()), error)


def standings(rows: Mapping[str, Row]) -> dict[str, dict[str, Any]]:
    """For each of ``PARTS``, the name of the ``best`` row, and how far the others are ``over`` it.

    Bits/dim are paired by sample. Samples are compared by their ratio to the floor, which is the same for all models.
    """
    found: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        cells = {name: row[part] for name, row in rows.items() if row[part] is not None}
        key = "ratio" if part == "samples" else "bits_per_dim"
        cells = {name: cell for name, cell in cells.items() if cell[key] is not None}
        if cells:
            best = min(cells, key=lambda name: cells[name][key])
            over = {name: _over(cell, cells[best]) for name, cell in cells.items() if name != best}
            found[part] = {
                "best": best,
                "over": {name: {"mean": d.mean, "error": _finite(d.error)} for name, d in over.items()},
            }
    return found


def _over(cell: Row, best: Row) -> Difference:
    if "bits" in cell:
        return paired(cell["bits"], best["bits"])
    errors = [math.nan if each["distance_error"] is None else each["distance_error"] for each in (cell, best)]
    error = math.hypot(*errors) / best["floor"]
    return Difference(cell["ratio"] - best["ratio"], error)


def _finite(value: float) -> float | None:
    """JSON has no nan."""
    return value if math.isfinite(value) else None
