"""Gaps that were made at random in complete tables: our imputer beside scikit-learn's IterativeImputer.

A share of all values is hidden. RMSE: of the hidden values, in standard deviations of their columns, the mean of draws
for ours. Coverage: of the central intervals between the 5 % and 95 % quantiles of 100 draws; 90 % is right. Seconds of
the processor. "forest" is IterativeImputer with 50 extremely randomised trees and 5 rounds, like MissForest.

    python benchmarks/imputation.py wine breast_cancer --repeats 3
    python benchmarks/imputation.py page-blocks0.npz            # arrays X; rows that are there twice count once
"""

import argparse
import importlib.metadata
import itertools
import json
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 (makes the next import work)
from sklearn.impute import IterativeImputer

from sfumato.imputation import SfumatoImputer

MACHINE = "2 cores of an x86 with AVX-512 and bf16, shared; one thread"
VERSIONS = {name: importlib.metadata.version(name) for name in ("sfumato", "numpy", "scikit-learn")}
SETS = {"wine": datasets.load_wine, "breast_cancer": datasets.load_breast_cancer}


def table(name: str) -> np.ndarray:
    """The rows of a set, without columns that do not vary."""
    x = SETS[name]().data if name in SETS else np.unique(np.load(name)["X"].astype(float), axis=0)
    return x[:, np.ptp(x, 0) > 0]


def imputed(who: str, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The table without gaps, and draws of ours."""
    if who == "ours":
        draws = SfumatoImputer(draws=100).fit(seen).draw(seen)
        return draws.mean(0), draws
    shift, scale = np.nanmean(seen, 0), np.nanstd(seen, 0)
    forest = ExtraTreesRegressor(50, random_state=0) if who == "forest" else None
    other = IterativeImputer(forest, max_iter=5 if who == "forest" else 10, random_state=0)
    return other.fit_transform((seen - shift) / scale) * scale + shift, None


def main() -> None:
    """Print a line per set, share, repeat and imputer, as JSON."""
    parser = argparse.ArgumentParser(description="Gaps in complete tables.")
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["ours", "iterative", "forest"])
    parser.add_argument("--out", type=Path, help="a JSON file, written after each line")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = []
    for name, share, repeat in itertools.product(args.sets, args.shares, range(args.repeats)):
        x = table(name)
        hidden = np.random.default_rng(repeat).random(x.shape) < share
        hidden[hidden.all(1)] = False
        seen = np.where(hidden, np.nan, x)
        for who in args.only:
            began = time.process_time()
            filled, draws = imputed(who, seen)
            seconds = time.process_time() - began
            rest = ((filled - x) / x.std(0))[hidden]
            line = {"set": Path(name).stem, "hidden": share, "repeat": repeat, "imputer": who}
            line |= {"rmse": round(float(np.sqrt((rest**2).mean())), 4), "cpu seconds": round(seconds, 1)}
            if draws is not None:
                low, high = np.quantile(draws, [0.05, 0.95], axis=0)
                line["coverage"] = round(float(((x >= low) & (x <= high))[hidden].mean()), 4)
            print(json.dumps(line), flush=True)
            lines.append(line)
            if args.out:
                record = {"machine": MACHINE, "versions": VERSIONS, "rows": lines}
                args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
