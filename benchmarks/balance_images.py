"""Images of a rare class made by a network, beside other ways to balance: digits with one of the rare class for 50.

Half of scikit-learn's digits, with the rare digit thinned to one image for 50 others, is written as a folder for each
class and filled by `balance` with its defaults but the budget. Learners on pixels (logistic regression, a random
forest) tell the rare digit from the others; they are trained on the half and tested on the other half, which nothing
else has seen. Points are balanced accuracy at the threshold that is best for the half, by three folds of its real
images. The network is trained once on the whole half, so a fold's threshold is judged on images that the network has
seen; the test half is not.

    python benchmarks/balance_images.py --rare 8 3 --budget 120
"""

import argparse
import importlib.metadata
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

from sfumato.evaluation.balancing.learners import probability
from sfumato.evaluation.balancing.rows import Table, rows
from sfumato.evaluation.balancing.scores import threshold, tuned
from sfumato.runs.balance import balance
from sfumato.runs.settings import BalanceSettings

MACHINE = "2 cores of an x86 with AVX-512 and bf16, shared; one thread"
VERSIONS = {name: importlib.metadata.version(name) for name in ("sfumato", "torch", "numpy", "scikit-learn")}
LEARNERS = ("logistic", "forest")


def thinned(rare: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images to train on, whether they are of the rare class, and those to test on."""
    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    first, second = np.array_split(order, 2)
    others = first[found.target[first] != rare]
    few = first[found.target[first] == rare][: len(others) // 50]
    train = np.r_[others, few]
    return train, found.target[train] == rare, second, found.target[second] == rare


def made(train: np.ndarray, budget: float, target: str) -> np.ndarray:
    """The synthetic images (n, 64) of class ``target`` that make it as frequent as all others together."""
    found = load_digits()
    with tempfile.TemporaryDirectory() as place:
        for i in train:
            (Path(place) / "digits" / str(found.target[i])).mkdir(parents=True, exist_ok=True)
            Image.fromarray((found.images[i] * 15).astype(np.uint8)).save(
                Path(place) / "digits" / str(found.target[i]) / f"{i}.png"
            )
        few = int((found.target[train] == int(target)).sum())
        settings = BalanceSettings(
            f"{place}/digits",
            target=f"{target}={len(train) - few}",
            budget=budget,
            out=Path(place) / "out",
        )
        record = balance(settings).record
        first, last = record["synthetic"]["first"], record["synthetic"]["last"]
        digits = len(str(last))
        images = [
            np.asarray(Image.open(f"{place}/out/data/{target}/{i:0{digits}d}.png")) for i in range(first, last + 1)
        ]
        print(json.dumps(record["classes"][target]), flush=True)
    # Real pixels have 17 levels; learners would tell synthetic images by the levels between these.
    return np.rint(np.stack(images).reshape(len(images), -1) / 15)


def judged(rare: int, seed: int, budget: float) -> list[dict[str, object]]:
    """A line for each learner and way."""
    x = load_digits().data
    train, label, test, truth = thinned(rare, seed)
    began = time.monotonic()
    extra = made(train, budget, str(rare))
    seconds = time.monotonic() - began
    lines: list[dict[str, object]] = []
    whole = np.arange(len(train))
    for learner in LEARNERS:
        for way in ("real", "weighted", "oversampled", "smote", "synthetic"):

            def table(part: np.ndarray, way: str = way) -> Table:
                return rows(way, x[train], label, part, lambda part, apart, count, seed: extra[:count], seed)

            said = np.empty(len(train))
            for inner, held in StratifiedKFold(3, shuffle=True, random_state=seed).split(train, label):
                said[held] = probability(learner, table(inner), x[train][held], seed)
            p = probability(learner, table(whole), x[test], seed)
            scores = tuned(p, truth, threshold(said, label))
            lines.append(
                {
                    "rare": rare,
                    "seed": seed,
                    "learner": learner,
                    "rows": way,
                    "balanced_accuracy": round(100 * scores["balanced_accuracy"], 2),
                    "at one half": round(100 * tuned(p, truth, 0.5)["balanced_accuracy"], 2),
                    "average_precision": round(100 * float(average_precision_score(truth, p)), 2),
                    "seconds": round(seconds),
                }
            )
    return lines


def main() -> None:
    """Print a line per digit, learner and way, as JSON."""
    parser = argparse.ArgumentParser(description="Rare images filled by a network.")
    parser.add_argument("--rare", type=int, nargs="+", default=[8])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=120.0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    lines = []
    for rare in args.rare:
        for line in judged(rare, args.seed, args.budget):
            lines.append(line)
            print(json.dumps(line), flush=True)
        if args.out:
            record = {"machine": MACHINE, "versions": VERSIONS, "budget": args.budget, "rows": lines}
            args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
