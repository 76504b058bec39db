"""Small tables by ForestDiffusion's protocol: our trees, and ForestFlow beside them where it is installed.

Stratified splits of 80 to 20; a generator fitted on the 80 % makes as many rows, with the labels in their counts. Both
are scaled by the least and greatest value of the training rows, and the label is one-hot. W1: exact optimal transport
with the L1 cost to the test rows. Coverage: the share of test rows whose ball to the 5th neighbour holds a sample. F1:
macro-F1 on the test rows of learners that were trained on samples, the mean of logistic regression, AdaBoost, a random
forest and XGBoost (histogram boosting where it is not installed). Nearest: the share of samples that are nearer to
training rows than to test rows, at equal counts; half is right. The protocol: Jolicoeur-Martineau, Fatras & Kachman
2024, section 4.

    python benchmarks/tables.py iris wine --splits 3 --generations 5
    python benchmarks/tables.py iris --forestflow          # pip install ForestDiffusion==1.0.6 first
"""

import argparse
import csv
import importlib.metadata
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, sparse
from scipy.spatial.distance import cdist
from sklearn import datasets, ensemble, linear_model
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

from sfumato import kinds, recipes
from sfumato.data import load
from sfumato.training.trees import Grower

SETS = {"iris": datasets.load_iris, "wine": datasets.load_wine, "breast_cancer": datasets.load_breast_cancer}
MACHINE = "2 cores of an x86 with AVX-512 and bf16, shared; one thread"
VERSIONS = {name: importlib.metadata.version(name) for name in ("sfumato", "numpy", "scikit-learn", "lightgbm")}
Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]


def trees(x: np.ndarray, y: np.ndarray, settings: list[str]) -> Draw:
    """Our trees, grown on all rows; samples are kept between the least and the greatest value of each column."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*(f"x{j}" for j in range(x.shape[1])), "label"])
            writer.writerows([*row.tolist(), f"c{label:03d}"] for row, label in zip(x, y, strict=True))
        recipe = recipes.read("trees", [*settings, "data.labels=label"])
        data = load(str(path), recipe.data.options())
    model = kinds.fresh(recipe, data.spec)
    Grower(model, data.samples()).grow()
    names = [f"c{label:03d}" for label in y]

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        found = model.sample(len(y), seed=seed, classes=names, batch=512).double().numpy()
        return np.clip(found, x.min(0), x.max(0)), y

    return draw


def forestflow(x: np.ndarray, y: np.ndarray) -> Draw:
    """ForestDiffusion's flow with its own settings, on one core."""
    from ForestDiffusion import ForestDiffusionModel

    model = ForestDiffusionModel(
        x.copy(), label_y=y, n_t=50, duplicate_K=100, diffusion_type="flow", n_batch=0, n_jobs=1, nthread=1
    )

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        np.random.seed(seed)  # noqa: NPY002 (theirs)
        found = model.generate(batch_size=len(x))
        return found[:, :-1], found[:, -1].astype(int)

    return draw


def real(x: np.ndarray, y: np.ndarray) -> Draw:
    """The training rows themselves."""
    return lambda seed: (x, y)


def transport(a: np.ndarray, b: np.ndarray) -> float:
    """The exact W1 between two sets of rows with the L1 cost."""
    cost = cdist(a, b, "cityblock")
    n, m = cost.shape
    rows = sparse.vstack([sparse.kron(sparse.eye(n), np.ones((1, m))), sparse.kron(np.ones((1, n)), sparse.eye(m))])
    ends = np.r_[np.full(n, 1 / n), np.full(m, 1 / m)]
    return float(optimize.linprog(cost.ravel(), A_eq=rows.tocsr(), b_eq=ends, method="highs").fun)


def learners() -> list[Any]:
    """Those that are trained on samples."""
    found = [
        linear_model.LogisticRegression(max_iter=500),
        ensemble.AdaBoostClassifier(n_estimators=100, random_state=0),
        ensemble.RandomForestClassifier(max_depth=28, random_state=0),
    ]
    try:
        from xgboost import XGBClassifier
    except ImportError:
        return [*found, ensemble.HistGradientBoostingClassifier(random_state=0)]
    return [*found, XGBClassifier(n_jobs=1)]


def judged(draw: Draw, seed: int, train: Any, test: Any) -> dict[str, float]:
    """The measures of one generation."""
    (x, y), (x_test, y_test) = train, test
    low, span = x.min(0), np.where(np.ptp(x, 0) > 0, np.ptp(x, 0), 1)
    kinds_of = int(y.max()) + 1

    def joined(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.c_[(x - low) / span, np.eye(kinds_of)[y]]

    made_x, made_y = draw(seed)
    made, real_rows, held = joined(made_x, made_y), joined(x, y), joined(x_test, y_test)
    ball = np.sort(cdist(held, held, "cityblock"), 1)[:, 5]
    some = real_rows[np.random.default_rng(seed).permutation(len(real_rows))[: len(held)]]
    nearer = cdist(made, some, "cityblock").min(1) < cdist(made, held, "cityblock").min(1)
    scores = []
    for learner in learners():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            guess = learner.fit(made[:, :-kinds_of], made_y).predict(held[:, :-kinds_of])
        scores.append(f1_score(y_test, guess, average="macro"))
    return {
        "W1 to test": transport(made, held),
        "F1": float(np.mean(scores)),
        "coverage": float((cdist(held, made, "cityblock").min(1) <= ball).mean()),
        "nearest": float(nearer.mean()),
    }


def main() -> None:
    """Print a line per set and generator, as JSON."""
    parser = argparse.ArgumentParser(description="Small tables by ForestDiffusion's protocol.")
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--forestflow", action="store_true")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="a setting of the recipe")
    parser.add_argument("--out", type=Path, help="a JSON file")
    args = parser.parse_args()
    lines = []
    made = {"real": real, "trees": partial(trees, settings=args.settings)}
    made |= {"ForestFlow": forestflow} if args.forestflow else {}
    for name in args.sets:
        x, y = SETS[name](return_X_y=True)
        for who, fit in made.items():
            rows, seconds = [], 0.0
            for split in range(args.splits):
                parts = train_test_split(x, y, test_size=0.2, random_state=split, stratify=y)
                began = time.perf_counter()
                draw = fit(parts[0], parts[2])
                seconds += (time.perf_counter() - began) / args.splits
                rows += [
                    judged(draw, seed, (parts[0], parts[2]), (parts[1], parts[3]))
                    for seed in range(1 if who == "real" else args.generations)
                ]
            found = {key: round(float(np.mean([row[key] for row in rows])), 3) for key in rows[0]}
            by_split = np.array([row["W1 to test"] for row in rows]).reshape(args.splits, -1).mean(1)
            error = float(by_split.std(ddof=1) / len(by_split) ** 0.5) if args.splits > 1 else None
            line = {
                "set": name,
                "generator": who,
                **found,
                "W1 error over splits": error,
                "splits": args.splits,
                "seconds to fit": round(seconds, 1),
            }
            print(json.dumps(line), flush=True)
            lines.append(line)
            if args.out:
                args.out.write_text(
                    json.dumps({"machine": MACHINE, "versions": VERSIONS, "rows": lines}, indent=1) + "\n"
                )


if __name__ == "__main__":
    main()
