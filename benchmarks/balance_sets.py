"""Synthetic rows beside SMOTE and the others on tables of the imbalanced-learning literature: `balance --evaluate`.

The sets are .npz files with X and y (KEEL's and UCI's imbalanced sets). "satimage" is class 4 against the rest, and
"digits" is scikit-learn's digits: one against the others, with one row of it for 50 others. Points are balanced
accuracy at tuned thresholds, means over splits; below SMOTE by more than one point is a failure.

    python benchmarks/balance_sets.py FOLDER pima yeast4 --splits 10
"""

import argparse
import csv
import importlib.metadata
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from sfumato import recipes
from sfumato.data import load
from sfumato.reporting import SILENT
from sfumato.runs.balance_evaluation import helped
from sfumato.runs.settings import BalanceSettings

MACHINE = "2 cores of an x86 with AVX-512 and bf16, shared"
VERSIONS = {name: importlib.metadata.version(name) for name in ("sfumato", "numpy", "scikit-learn")}


def rows_of(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a set, and which are of the rare class."""
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        rare = np.flatnonzero(y == 8)[: int((y != 8).sum()) // 50]
        kept = np.sort(np.r_[np.flatnonzero(y != 8), rare])
        return x[kept], y[kept] == 8
    with np.load(folder / f"{name}.npz", allow_pickle=False) as found:
        return found["X"], found["y"] == (4 if name == "satimage" else 1)


def judged(folder: Path, name: str, splits: int, learners: tuple[str, ...] | None) -> dict[str, object]:
    """The measurement of one set."""
    x, rare = rows_of(folder, name)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"{name}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*(f"x{j}" for j in range(x.shape[1])), "kind"])
            writer.writerows([*map(float, row), "rare" if one else "other"] for row, one in zip(x, rare, strict=True))
        settings = BalanceSettings(str(path), ("data.labels=kind",), splits=splits, learners=learners)
        recipe = recipes.read("trees", settings.overrides)
        found = helped(load(str(path), recipe.data.options()), settings, recipe, SILENT).to_dict()
    points = {
        learner: {way: round(100 * found["scores"][learner][way]["balanced_accuracy"], 2) for way in ways}
        for learner, ways in found["scores"].items()
    }
    beyond = [ways["synthetic, threshold"] - ways["smote, threshold"] for ways in points.values()]
    return {
        "set": name,
        "rows": len(x),
        "rare": int(rare.sum()),
        "splits": splits,
        "synthetic less SMOTE": round(float(np.mean(beyond)), 2),
        "verdict": found["sentence"],
        "by learner": {k: d["verdict"] for k, d in found["by_learner"].items()},
        "balanced accuracy": points,
        "seconds": round(time.monotonic() - began),
    }


def main() -> None:
    """Print a line per set, as JSON."""
    parser = argparse.ArgumentParser(description="balance --evaluate on known imbalanced sets.")
    parser.add_argument("folder", type=Path, help="with the .npz files")
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--learners", type=lambda text: tuple(text.split(",")))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = []
    for name in args.sets:
        found.append(judged(args.folder, name, args.splits, args.learners))
        print(json.dumps(found[-1]), flush=True)
        if args.out:
            record = {"machine": MACHINE, "versions": VERSIONS, "sets": found}
            args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
