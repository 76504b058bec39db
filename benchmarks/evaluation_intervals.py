"""Do the intervals of ``sfumato evaluate`` cover? The share of 95 % intervals that hold what they are for.

    python benchmarks/evaluation_intervals.py [--targets equal,shifted] [--repetitions 400] [--save]

An interval is for the expectation of a measure at these sizes, over new samples and new real data. That expectation is
the mean over all repetitions, whose own error is a twentieth of one measurement's. The intervals were made with the
targets ``CHOICE`` in view; ``CHECK`` was drawn for the first time when they were finished.
"""

import argparse
import json
import math
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from sfumato.evaluation.quality import Sets, features, intervals
from sfumato.evaluation.quality.measures import _IN_FEATURES, _OF_NUMBERS, CLASSIFIER
from sfumato.evaluation.quality.two_samples import classifier

RESULTS = Path(__file__).parent / "results" / "evaluation_intervals.json"
MEASURES = {m.name: m.function for m in (*_IN_FEATURES, *_OF_NUMBERS)}
LENGTH = 16  # of the signals


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(count: int, seed: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def equal(seed: int) -> Sets:
    """Samples as good as real data: 200 and 200 points of one Gaussian in 8 dimensions."""
    return Sets(normal(200, 8, seed=2 * seed), normal(200, 8, seed=2 * seed + 1))


def shifted(seed: int) -> Sets:
    """Another mean and another scale, 200 and 200 points in 8 dimensions."""
    return Sets(0.3 + 1.2 * normal(200, 8, seed=2 * seed), normal(200, 8, seed=2 * seed + 1))


def noisy(seed: int) -> Sets:
    """A third of the samples is noise: 150 samples, 250 real points in 3 dimensions."""
    x = normal(150, 3, seed=4 * seed)
    x = torch.where(uniform(150, 4 * seed + 1)[:, None] < 1 / 3, 3 * normal(150, 3, seed=4 * seed + 2), x)
    return Sets(x, normal(250, 3, seed=4 * seed + 3))


def mixture(seed: int) -> Sets:
    """Two of ten modes are missing: 300 samples, 200 real points in 6 dimensions."""
    centres = 2 * normal(10, 6, seed=10**6)
    x, y = ((uniform(n, 4 * seed + i) * k).long() for i, (n, k) in enumerate(((300, 8), (200, 10))))
    return Sets(centres[x] + normal(300, 6, seed=4 * seed + 2), centres[y] + normal(200, 6, seed=4 * seed + 3))


def heavy(seed: int) -> Sets:
    """Heavy tails, nearly equal: Student's t of 4.5 and 5 degrees of freedom, 200 and 200 points in 4 dimensions."""
    chi = torch.distributions.Chi2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2 * seed)
        x, y = (torch.randn(200, 4).double() / (chi(df).sample((200, 1)).double() / df).sqrt() for df in (4.5, 5.0))
    return Sets(x, y)


def wide(seed: int) -> Sets:
    """More features than points, as with a network's: 100 and 100 points in 256 dimensions with a decaying spectrum."""
    scale = torch.arange(1, 257).double().rsqrt()
    return Sets(1.1 * scale * normal(100, 256, seed=2 * seed), scale * normal(100, 256, seed=2 * seed + 1))


def signals(seed: int) -> Sets:
    """Autoregressive signals of 16 positions with coefficients 0.8 and 0.85, 200 and 200."""
    found = []
    for i, a in enumerate((0.85, 0.8)):
        noise, values = normal(200, LENGTH, seed=2 * seed + i), []
        for t in range(LENGTH):
            values.append(noise[:, t] if t == 0 else a * values[-1] + math.sqrt(1 - a * a) * noise[:, t])
        found.append(torch.stack(values, 1))
    return Sets(*found)


def same(seed: int) -> Sets:
    """Samples as good as real data, of a skewed distribution: 400 and 150 points, 2 dimensions."""
    return Sets(normal(400, 2, seed=2 * seed).exp(), normal(150, 2, seed=2 * seed + 1).exp())


CHOICE: dict[str, Callable[[int], Sets]] = {"equal": equal, "shifted": shifted, "noisy": noisy}
CHECK: dict[str, Callable[[int], Sets]] = {
    "mixture": mixture,
    "heavy": heavy,
    "wide": wide,
    "signals": signals,
    "same": same,
}
TARGETS = CHOICE | CHECK


def measure(draw: Callable[[int], Sets], repetitions: int) -> dict[str, dict[str, float]]:
    """By measure: the share of intervals that cover, the error that they state and the error that there is."""
    functions = dict(MEASURES)
    if draw is signals:
        functions["spectra"] = partial(features.spectra, length=LENGTH)
    found = []
    for seed in range(repetitions):
        sets = draw(seed)
        trained = classifier(sets)  # first: the smaller sets of the intervals take over the distances
        found.append([*intervals(list(functions.values()), sets), trained])
    rows = {}
    for k, name in enumerate([*functions, CLASSIFIER]):
        values = torch.tensor([row[k].value for row in found])
        truth = float(values.mean())
        rows[name] = {
            "covered": sum(row[k].low <= truth <= row[k].high for row in found) / repetitions,
            "below": sum(truth > row[k].high for row in found) / repetitions,
            "stated": float(torch.tensor([row[k].error for row in found]).square().mean().sqrt()),
            "true": float(values.std()),
            "mean": truth,
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    args = parser.parse_args()
    found = json.loads(RESULTS.read_text())["targets"] if args.save and RESULTS.is_file() else {}
    for name in args.targets.split(","):
        rows = measure(TARGETS[name], args.repetitions)
        found[name] = {"for": "choice" if name in CHOICE else "check", "about": TARGETS[name].__doc__, "measures": rows}
        print(name)
        for each, row in rows.items():
            print(f"  {each:<20}{row['covered']:7.1%} {row['stated'] / row['true'] if row['true'] else math.nan:6.2f}")
        if args.save:
            machine = f"{platform.machine()}, torch {torch.__version__}"
            record = {"machine": machine, "repetitions": args.repetitions, "targets": found}
            RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
