"""Models of one data set beside each other: all measured on the same samples, so that their differences are paired.

Bits/dim vary far more from sample to sample than from model to model. Where two models score the same samples, the
mean of the n differences d_i has the standard error std(d) / sqrt(n), and this, not the errors of the two means, says
whether one is better.
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

from .recognition import recognise
from .scoring import encode
from .wasserstein import Ruler

MOST = 2_000  # held-out samples that distances are taken to
CLASSIFIED = 4_000  # training samples that a classifier learns from, at most
PAIRS = 8  # of true sets and data, for the floor
# For a forecast: passes forwards that a training step takes, and the seconds that reading, measuring and writing take.
STEP, BESIDE = 3.0, 10.0

PARTS = ("bound", "flow", "samples")

Row = dict[str, Any]
Progress = Callable[[str, int, int], None]  # (part, done, total)


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What every model is measured on: a function of data, seed and count alone.

    ``rows`` (n,) number the held-out samples of ``dataset`` that are scored; ``ruler`` measures samples.
    """

    dataset: Dataset
    train: Int64[Tensor, "t"]
    held_out: Int64[Tensor, "h"]
    rows: Int64[Tensor, "n"]
    ruler: Ruler
    seed: int

    @classmethod
    def of(cls, dataset: Dataset, share: float, seed: int, count: int, toy: str | None) -> "Yardstick":
        """With this ``share`` of the data held out, of which ``count`` samples at most are scored.

        True sets are parts of the training data, as large as the samples will be, but no more than half of it, against
        the held-out data. Of a ``toy`` both sides are fresh ones.
        """
        spec = dataset.spec
        train, held_out = split(len(dataset), share, seed)
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
            parts = [train[permutation(len(train), seed, "true", k)[:size]] for k in range(PAIRS)]
            ruler = Ruler([data] * PAIRS, [dataset.encoded(part) for part in parts], seed)
        # The same that 'sfumato likelihood' chooses.
        rows = held_out[permutation(len(held_out), seed, "scored")[:count]].sort().values
        return cls(dataset, train, held_out, rows, ruler, seed)

    def options(self) -> LikelihoodOptions:
        """How likelihoods are measured: the defaults of 'sfumato likelihood'."""
        return LikelihoodOptions.suited_to(self.dataset.spec, self.seed)


def measure(model: GenerativeModel, yardstick: Yardstick, progress: Progress = lambda part, done, total: None) -> Row:
    """The model's ``bound``, ``flow``, ``samples`` and ``recognition``, None for what it has not, as JSON holds them.

    What could not be measured is None as well, and ``reasons`` say why. Bits/dim are in data units.
    """
    options, reasons = yardstick.options(), dict[str, str]()
    x_0 = encode(model, yardstick.dataset.values[yardstick.rows], "held-out data")

    def attempt(part: str, measured: Callable[[Callable[[int, int], None]], Row]) -> Row | None:
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


def _sample(model: GenerativeModel, yardstick: Yardstick, progress: Callable[[int, int], None]) -> Row:
    spec, count = model.spec, yardstick.ruler.count
    started = time.monotonic()
    plan, batch = model.plan(), 256
    drawn = model.sample(count, seed=yardstick.seed, batch=batch, watch=plan.counting(count, batch, progress))
    seconds = time.monotonic() - started
    # On the levels of the data, where it has any, as they would be written to a file.
    drawn = torch.from_numpy(spec.to_array(spec.encode(drawn.double())).astype("float64"))
    fidelity = yardstick.ruler.measure(spec.encode(drawn))
    found = {
        "sampler": plan.sampler,
        "method": plan.method,
        "evaluations": plan.evaluations,
        "seconds": round(seconds, 3),
        **asdict(fidelity),
        "ratio": _finite(fidelity.ratio),
        "ratio_error": _finite(fidelity.ratio_error),
    }
    return {"samples": found, "recognition": _recognise(drawn, yardstick)}


def _recognise(samples: Tensor, yardstick: Yardstick) -> Row | None:
    dataset, held_out = yardstick.dataset, yardstick.held_out
    labels = dataset.labels
    train = yardstick.train[permutation(len(yardstick.train), yardstick.seed, "classified")[:CLASSIFIED]]
    if labels is None or len(set(labels[train].tolist())) < 2:
        return None
    found = recognise(dataset.values[train], labels[train], dataset.values[held_out], labels[held_out], samples)
    return asdict(found)


def expected(model: GenerativeModel, yardstick: Yardstick, steps: int) -> float:
    """Seconds that ``steps`` of training and measuring will take, by a few passes timed on this machine."""
    x_0 = encode(model, yardstick.dataset.values[yardstick.rows], "held-out data")
    options = yardstick.options()
    one = model.forecast(x_0, replace(options, evaluations=1), flow=False) / len(x_0)
    numbers = yardstick.ruler.count + model.spec.layout.gallery_samples
    evaluations = model.plan().evaluations or 1
    scoring = model.forecast(x_0, options, flow=model.can("flow"))
    return BESIDE + scoring + one * (numbers * evaluations + STEP * steps * model.recipe.training.batch_for(model.spec))


@dataclass(frozen=True)
class Difference:
    """A difference with its standard error, nan where there is no telling."""

    mean: float
    error: float


def paired(values: Sequence[float], best: Sequence[float]) -> Difference:
    """The mean of ``values - best``, sample by sample."""
    apart = torch.tensor(values, dtype=torch.float64) - torch.tensor(best, dtype=torch.float64)
    error = float(apart.std()) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan
    return Difference(float(apart.mean()), error)


def standings(rows: Mapping[str, Row]) -> dict[str, dict[str, Any]]:
    """For bound, flow and samples the name of the ``best`` row, and how far ``over`` it each row that has one is.

    Bits/dim are paired by sample. Samples are compared by their ratio to the floor, which all have in common.
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
    error = math.hypot(cell["distance_error"], best["distance_error"]) / best["floor"]
    return Difference(cell["ratio"] - best["ratio"], error)


def _finite(value: float) -> float | None:
    """JSON knows no nan."""
    return value if math.isfinite(value) else None
