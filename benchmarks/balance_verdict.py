"""Whether the verdict of `sfumato balance --evaluate` is right, on kinds of tables whose answer is computed.

Each kind is a law that makes tables, a learner, and a way to make rows of the rare class that is fitted on training
rows. The truth is the mean difference of balanced accuracy, with thresholds chosen as the verdict chooses them, of
learners trained on fresh tables (as many rows as the verdict trains on) and tested on 20,000 fresh rows of each class:
above one point it helps, below minus one it hurts, between it makes no difference. Then fresh tables are judged, and
their verdicts counted.

The rule (smoothed thresholds, 2 x 5 folds, Nadeau and Bengio's interval) was chosen on smaller tables of the kinds
marked "chosen": the others, and all seeds, check it.

    python benchmarks/balance_verdict.py --repeats 50 --out benchmarks/results/balance_verdict.json
"""

import argparse
import importlib.metadata
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold

from sfumato.evaluation.balancing import MARGIN, Difference, Make, measure
from sfumato.evaluation.balancing.learners import probability
from sfumato.evaluation.balancing.rows import rows
from sfumato.evaluation.balancing.scores import threshold, tuned

MACHINE = "2 cores of an x86 with AVX-512 and bf16, shared"
VERSIONS = {name: importlib.metadata.version(name) for name in ("sfumato", "numpy", "scikit-learn")}
TESTED = 20_000  # fresh rows of each class
WORDS = {"helped": "helps", "none": "no difference", "hurt": "hurts", "unknown": "cannot be told"}
Law = Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]
"""From a generator, the number of rows and that of rare ones to a table and which rows are rare."""


@dataclass(frozen=True)
class Kind:
    """A kind of table: what is in it, who learns from it, and how many rows of both classes and of the rare one."""

    law: Law
    learner: str
    n: int
    rare: int
    make: str = "gaussian"
    chosen: bool = False


def shifted(dimensions: int, gap: float) -> Law:
    """Two Gaussians, of which the rare one is ``gap`` away."""

    def law(generator: np.random.Generator, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        rare = np.arange(n) < k
        return generator.normal(size=(n, dimensions)) + rare[:, None] * gap / np.sqrt(dimensions), rare

    return law


def curved(generator: np.random.Generator, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Most others to the lower left of the rare ones, a tenth to their right: the best boundary is bent."""
    rare = np.arange(n) < k
    x = generator.normal(size=(n, 2))
    few = ~rare & (generator.random(n) < 0.1)
    x[~rare & ~few] += (-2, -2)
    x[few] += (3, 0)
    return x, rare


def two_sided(generator: np.random.Generator, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rare rows on both sides of the others: a Gaussian of them lies on the others."""
    rare = np.arange(n) < k
    x = generator.normal(size=(n, 2)) * np.where(rare[:, None], [0.5, 1.0], 1.0)
    x[:, 0] += rare * 2.5 * generator.choice([-1, 1], n)
    return x, rare


def mislabelled(law: Law, share: float) -> Law:
    """A share of the rare rows are in truth drawn from the others."""

    def noisy(generator: np.random.Generator, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        x, rare = law(generator, n, k)
        wrong = generator.choice(k, round(share * k), replace=False)
        x[wrong] = law(generator, len(wrong), 0)[0]
        return x, rare

    return noisy


def maker(name: str, x: np.ndarray, rare: np.ndarray) -> Make:
    """Rows of the rare class from training rows: a Gaussian fitted to them, one that is moved, or near copies."""

    def make(train: np.ndarray, apart: np.ndarray, count: int, seed: int) -> np.ndarray:
        generator = np.random.default_rng(seed)
        few = x[train[rare[train]]]
        spread = 0.9 * np.cov(few.T) + 0.1 * np.diag(few.var(0))
        if name == "copies":
            return few[generator.choice(len(few), count)] + 0.05 * generator.normal(size=(count, x.shape[1]))
        moved = np.zeros(x.shape[1])
        if name == "beside":
            moved = -few.std(0)
        elif name in {"aside", "across"}:
            moved[0] = 4.0 if name == "aside" else -4.0
        return generator.multivariate_normal(few.mean(0) + moved, spread, count)

    return make


KINDS = {
    "weak learner, curved boundary": Kind(curved, "logistic", 6000, 300, chosen=True),
    "linear boundary, logistic regression": Kind(shifted(5, 3.0), "logistic", 2500, 250, chosen=True),
    "classes overlap wholly": Kind(shifted(2, 0.0), "logistic", 30000, 4000, chosen=True),
    "strong learner, enough rows": Kind(shifted(2, 4.0), "boosting", 6000, 1200, chosen=True),
    "shape of the class is missed": Kind(two_sided, "boosting", 6000, 300, chosen=True),
    "labels of the class are wrong in part": Kind(mislabelled(shifted(3, 4.0), 0.3), "logistic", 4000, 600),
    "one Gaussian, few rows": Kind(shifted(20, 4.0), "forest", 500, 50),
    "rows beside the class, curved boundary": Kind(curved, "logistic", 6000, 300, "beside"),
    "rows far aside, linear boundary": Kind(shifted(5, 3.0), "logistic", 4000, 400, "aside"),
    "rows across the others, linear boundary": Kind(shifted(5, 3.0), "logistic", 4000, 400, "across"),
    "near copies, strong learner": Kind(shifted(2, 4.0), "boosting", 6000, 1200, "copies"),
    "labels are wrong in part, strong learner": Kind(mislabelled(two_sided, 0.2), "boosting", 4000, 800),
    "few rows, logistic regression": Kind(shifted(5, 2.0), "logistic", 200, 20),
}


def truth(kind: Kind, tables: int) -> tuple[float, float]:
    """The mean difference over fresh tables, and its standard error."""
    generator = np.random.default_rng(10**6)
    tested, labels = kind.law(generator, 2 * TESTED, TESTED)
    found = []
    for table in range(tables):
        x, rare = kind.law(generator, round(0.8 * kind.n), round(0.8 * kind.rare))
        make = maker(kind.make, x, rare)
        folds = list(StratifiedKFold(4, shuffle=True, random_state=table).split(x, rare))
        accuracies = []
        for way in ("real", "synthetic"):
            said = np.empty(len(x))
            for i, (train, held) in enumerate(folds):
                said[held] = probability(kind.learner, rows(way, x, rare, train, make, table * 10 + i), x[held], table)
            whole = rows(way, x, rare, np.arange(len(x)), make, table * 10 + 9)
            p = probability(kind.learner, whole, tested, table)
            accuracies.append(tuned(p, labels, threshold(said, rare))["balanced_accuracy"])
        found.append(accuracies[1] - accuracies[0])
    return float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(tables))


def judged(kind: Kind, seed: int) -> Difference:
    """The verdict on a fresh table."""
    x, rare = kind.law(np.random.default_rng(seed), kind.n, kind.rare)
    rows_of = maker(kind.make, x, rare)
    return measure(x, rare, "rare", rows_of, seed=seed, learners=[kind.learner], rows=["real"]).overall


def report(name: str, kind: Kind, repeats: int, tables: int) -> dict[str, object]:
    """The truth of a kind and the verdicts on its tables."""
    began = time.monotonic()
    true, error = truth(kind, tables)
    answer = "helped" if true > MARGIN else "hurt" if true < -MARGIN else "none"
    found = [judged(kind, seed) for seed in range(repeats)]
    counts = Counter(each.verdict for each in found)
    return {
        "kind": name,
        "rows": kind.n,
        "rare": kind.rare,
        "learner": kind.learner,
        "chosen on it": kind.chosen,
        "true points": round(100 * true, 2),
        "its error": round(100 * error, 2),
        "answer": WORDS[answer],
        "verdicts": {WORDS[word]: counts[word] for word in WORDS},
        "right": counts[answer] / repeats,
        "wrong": sum(counts[word] for word in ("helped", "none", "hurt") if word != answer) / repeats,
        "wrongly helped": counts["helped"] / repeats if answer != "helped" else 0.0,
        "interval has the truth": float(np.mean([each.low <= true <= each.high for each in found])),
        "half an interval, points": round(100 * float(np.mean([(each.high - each.low) / 2 for each in found])), 2),
        "repeats": repeats,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """Print a line per kind, as JSON."""
    parser = argparse.ArgumentParser(description="The verdict of balance --evaluate on tables of known answer.")
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--tables", type=int, default=24, help="fresh tables that say the truth")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = []
    for name in args.kinds:
        found.append(report(name, KINDS[name], args.repeats, args.tables))
        print(json.dumps(found[-1]), flush=True)
        if args.out:
            record = {"machine": MACHINE, "versions": VERSIONS, "kinds": found}
            args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
