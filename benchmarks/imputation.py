"""Gaps that were made at random in complete tables: our imputer beside scikit-learn's IterativeImputer.

A share of all values is hidden. RMSE: of the hidden values, in standard deviations of their columns, the mean of draws
for ours. Coverage: of the central intervals between the 5 % and 95 % quantiles of 100 draws; 90 % is right. Seconds: on
one core. "forest" is IterativeImputer with 50 extremely randomised trees and 5 rounds, like MissForest.

    python benchmarks/imputation.py wine breast_cancer --repeats 3
    python benchmarks/imputation.py page-blocks0.npz            # arrays X; rows that are there twice count once
"""

import argparse
import json
import time
import warnings

import numpy as np
from sklearn import datasets
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 (makes the next import work)
from sklearn.impute import IterativeImputer

from sfumato.imputation import SfumatoImputer

SETS = {"wine": datasets.load_wine, "breast_cancer": datasets.load_breast_cancer}


def table(name: str) -> np.ndarray:
    """The rows of a set, without columns that do not vary."""
    x = SETS[name]().data if name in SETS else np.unique(np.load(name)["X"].astype(float), axis=0)
    return x[:, np.ptp(x, 0) > 0]


def main() -> None:
    """Print a line per set and share, as JSON."""
    parser = argparse.ArgumentParser(description="Gaps in complete tables.")
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["ours", "iterative", "forest"])
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in args.sets:
        x = table(name)
        spread = x.std(0)
        for share in args.shares:
            found: dict[str, list[tuple[float, float, float]]] = {who: [] for who in args.only}
            for repeat in range(args.repeats):
                hidden = np.random.default_rng(repeat).random(x.shape) < share
                hidden[hidden.all(1)] = False
                seen = np.where(hidden, np.nan, x)
                shift, scale = np.nanmean(seen, 0), np.nanstd(seen, 0)
                for who in args.only:
                    began, coverage = time.perf_counter(), float("nan")
                    if who == "ours":
                        draws = SfumatoImputer(draws=100).fit(seen).draw(seen)
                        low, high = np.quantile(draws, [0.05, 0.95], axis=0)
                        coverage, filled = float(((x >= low) & (x <= high))[hidden].mean()), draws.mean(0)
                    else:
                        forest = ExtraTreesRegressor(50, random_state=0) if who == "forest" else None
                        rounds = 5 if who == "forest" else 10
                        other = IterativeImputer(forest, max_iter=rounds, random_state=0)
                        filled = other.fit_transform((seen - shift) / scale) * scale + shift
                    error = float(np.sqrt((((filled - x) / spread)[hidden] ** 2).mean()))
                    found[who].append((error, coverage, time.perf_counter() - began))
            for who, rows in found.items():
                error, coverage, seconds = np.mean(rows, 0).round(4).tolist()
                line = {"set": name, "hidden": share, "imputer": who, "rmse": error, "coverage": coverage}
                print(json.dumps({**line, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
