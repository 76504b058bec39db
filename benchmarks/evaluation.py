"""What ``sfumato evaluate`` measures, on sets whose answer is known.

    python benchmarks/evaluation.py [--save]

Frechet and kernel distances of Gaussians against their closed forms; precision, recall, density and coverage against
the package prdc, if it is installed; Clipped Density and Coverage against the share of samples that are good; planted
copies of digits against the share that was planted. The intervals have a script of their own.
"""

import argparse
import contextlib
import io
import json
import math
import platform
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato import data
from sfumato.data.order import permutation
from sfumato.evaluation.memorisation import copying, verdict
from sfumato.evaluation.quality import (
    Sets,
    clipped_coverage,
    clipped_density,
    coverage,
    density,
    frechet,
    frechet_infinite,
    interval,
    kernel_distance,
    precision,
    recall,
)

RESULTS = Path(__file__).parent / "results" / "evaluation.json"


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussians() -> dict[str, Any]:
    """200 and 200 points of two Gaussians with full covariances in 8 dimensions, 400 times."""
    a, b = (torch.eye(8).double() + 0.4 * normal(8, 8, seed=s) for s in (10**6, 10**6 + 1))
    shift = 0.3 * torch.ones(8).double()
    first, second = a.mT @ a, b.mT @ b
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.sqrt() @ vectors.mT
    cross = torch.linalg.eigvalsh(root @ second @ root).sqrt().sum()
    truth = float(shift.square().sum() + first.trace() + second.trace() - 2 * cross)
    plain, infinite, covered = [], [], 0
    for seed in range(400):
        sets = Sets(normal(200, 8, seed=2 * seed) @ a + shift, normal(200, 8, seed=2 * seed + 1) @ b)
        found = interval(frechet_infinite, sets)
        plain.append(frechet(sets))
        infinite.append(found.value)
        covered += found.low <= truth <= found.high
    return {
        "closed form": truth,
        "frechet": _mean(plain),
        "frechet_infinite": _mean(infinite),
        "closed form in the interval of frechet_infinite": covered / 400,
    }


def kernel() -> dict[str, Any]:
    """KID's kernel in one dimension, where MMD^2 is known: 30 and 20 points, 200 times."""
    rows = {}
    for shift, scale in ((0.0, 1.0), (0.5, 1.5)):
        moments = shift, shift**2 + scale**2 - 1, shift**3 + 3 * shift * scale**2
        truth = sum(math.comb(3, j) * m**2 for j, m in enumerate(moments, 1))
        found = [
            kernel_distance(Sets(shift + scale * normal(30, 1, seed=2 * s), normal(20, 1, seed=2 * s + 1)))
            for s in range(200)
        ]
        rows[f"shift {shift}, scale {scale}"] = {"truth": truth, "found": _mean(found)}
    return rows


def peers() -> dict[str, Any]:
    """The largest difference to the package prdc over 50 pairs of sets."""
    if find_spec("prdc") is None:
        return {"prdc": "is not installed"}
    from prdc import compute_prdc

    own: dict[str, Callable[[Sets, int], float]] = {
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
    }
    largest = dict.fromkeys(own, 0.0)
    for seed in range(50):
        x, y, k = 1.2 * normal(120, 6, seed=2 * seed), normal(90, 6, seed=2 * seed + 1), 1 + seed % 7
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a line per call
            theirs = compute_prdc(real_features=y.numpy(), fake_features=x.numpy(), nearest_k=k)
        for name, function in own.items():
            largest[name] = max(largest[name], abs(function(Sets(x, y), k) - float(theirs[name])))
    return largest


def shares() -> dict[str, Any]:
    """Clipped scores against the share of samples that are noise, and against the share of modes that are left."""
    rows: dict[str, Any] = {"noise": {}, "modes": {}}
    for percent in range(0, 101, 10):
        found = []
        for seed in range(20):
            x, y = normal(500, 8, seed=2 * seed), normal(500, 8, seed=2 * seed + 1)
            x[: 5 * percent] = 30 + 30 * normal(5 * percent, 8, seed=10**6 + seed)
            sets = Sets(x, y)
            found.append((clipped_density(sets), clipped_coverage(sets), density(sets), coverage(sets)))
        names = ("clipped_density", "clipped_coverage", "density", "coverage")
        rows["noise"][f"{percent} %"] = {n: _mean([f[k] for f in found])["mean"] for k, n in enumerate(names)}
    centres = 10 * normal(10, 8, seed=10**6)
    for kept in range(1, 11):
        found = []
        for seed in range(20):
            x = centres[torch.arange(500) % kept] + normal(500, 8, seed=2 * seed)
            y = centres[torch.arange(500) % 10] + normal(500, 8, seed=2 * seed + 1)
            sets = Sets(x, y)
            found.append((clipped_density(sets), clipped_coverage(sets), density(sets), coverage(sets)))
        rows["modes"][f"{kept} of 10"] = {n: _mean([f[k] for f in found])["mean"] for k, n in enumerate(names)}
    return rows


def copies() -> dict[str, Any]:
    """Digits: 1,000 to train on, 300 held out, 300 others as samples of a perfect model, a share of them replaced.

    Replaced by training samples as they are, or with noise of a tenth of the range. 40 divisions for each share.
    """
    values = data.load("digits")
    points = values.spec.encode(values.values).flatten(1).double()
    rows = {}
    for noise in (0.0, 0.1):
        for share in (0.0, 0.1, 0.5, 1.0):
            found, accused = [], 0
            for seed in range(40):
                order = permutation(len(points), seed, "copies")
                train, held_out, samples = points[order[:1000]], points[order[1000:1300]], points[order[1300:1600]]
                count = round(300 * share)
                samples = samples.clone()
                samples[:count] = train[:count] + 2 * noise * normal(count, 64, seed=seed)
                each = copying(samples, held_out, train)
                found.append(each)
                accused += verdict([each]).startswith("The model copies")
            rows[f"{share:.0%} copies{f', noise {noise}' if noise else ''}"] = {
                "share found": _mean([each.share for each in found]),
                "share in the interval": sum(each.low <= share <= each.high for each in found) / 40,
                "said to copy": accused / 40,
            }
    return rows


def _mean(values: list[float]) -> dict[str, float]:
    found = torch.tensor(values, dtype=torch.float64)
    return {"mean": float(found.mean()), "error": float(found.std()) / math.sqrt(len(values))}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "gaussians": gaussians,
    "kernel": kernel,
    "prdc": peers,
    "shares": shares,
    "copies": copies,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    args = parser.parse_args()
    found = json.loads(RESULTS.read_text())["parts"] if args.save and RESULTS.is_file() else {}
    for name in args.parts.split(","):
        found[name] = PARTS[name]()
        print(json.dumps({name: found[name]}, indent=1))
        if args.save:
            machine = f"{platform.machine()}, torch {torch.__version__}"
            RESULTS.write_text(json.dumps({"machine": machine, "parts": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
