"""How often bands of a reconstruction hold the true value, on problems whose prior is known exactly.

Each problem: a mixture of 5 Gaussians in 3 dimensions with random means, widths and weights; 1 or 2 readings by a
random Gaussian matrix, with noise of 0.05 to 0.5; a true sample of the prior. ``model.reconstruct`` runs with its own
settings. The exact posterior's bands, from as many draws, are beside it.

    python benchmarks/posterior_coverage.py --count 500
"""

import argparse
import json
import math
from pathlib import Path

import torch

from sfumato import Model
from sfumato.core import VP, Cosine, Process
from sfumato.data import LAYOUTS, Affine, DataSpec
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.restoration import Matrix

LEVELS = (0.5, 0.8, 0.9, 0.95)
DRAWS, DIMENSIONS, COMPONENTS = 199, 3, 5


def problem(seed: int) -> tuple[GaussianMixture, torch.Tensor, float, torch.Tensor, torch.Tensor]:
    """A prior, an operator, its noise, a true sample, and its readings."""
    g = torch.Generator().manual_seed(seed)
    means = 1.5 * torch.randn(COMPONENTS, DIMENSIONS, generator=g, dtype=torch.float64)
    roots = 0.4 * torch.randn(COMPONENTS, DIMENSIONS, DIMENSIONS, generator=g, dtype=torch.float64)
    covariances = roots @ roots.mT + 0.02 * torch.eye(DIMENSIONS)
    weights = torch.rand(COMPONENTS, generator=g, dtype=torch.float64) + 0.1
    prior = GaussianMixture(weights / weights.sum(), means, covariances)
    matrix = torch.randn(1 + seed % 2, DIMENSIONS, generator=g, dtype=torch.float64)
    noise = 0.05 * 10 ** float(torch.rand((), generator=g))
    x = prior.sample(1, g)[0].double()
    return prior, matrix, noise, x, matrix @ x + noise * torch.randn(len(matrix), generator=g, dtype=torch.float64)


def exact(prior: GaussianMixture, matrix: torch.Tensor, noise: float, y: torch.Tensor) -> GaussianMixture:
    """The posterior of a linear measurement."""
    covariances = torch.linalg.inv(torch.linalg.inv(prior.covariances) + matrix.T @ matrix / noise**2)
    pull = torch.linalg.solve(prior.covariances, prior.means[..., None])[..., 0] + y @ matrix / noise**2
    means = (covariances @ pull[..., None])[..., 0]
    spread = matrix @ prior.covariances @ matrix.T + noise**2 * torch.eye(len(y))
    of_y = torch.distributions.MultivariateNormal(prior.means @ matrix.T, spread)
    weights = (prior.weights.log() + of_y.log_prob(y)).softmax(0).clamp(min=1e-300)
    return GaussianMixture(weights / weights.sum(), means, (covariances + covariances.mT) / 2)


def inside(draws: torch.Tensor, x: torch.Tensor, level: float) -> torch.Tensor:
    """Whether each number of x lies between the order statistics of the draws (n, d) that enclose ``level``."""
    low = (1 - level) / 2 * (len(draws) + 1) - 1
    ends = torch.quantile(draws, torch.tensor([low, len(draws) - 1 - low]).double() / (len(draws) - 1), dim=0)
    return (ends[0] <= x) & (x <= ends[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=5000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    spec = DataSpec(
        LAYOUTS["vector"], (DIMENSIONS,), "float32", Affine((0.0,), (1.0,)), (), 3.0, 20.0, (), (), 100, "0" * 64, "toy"
    )  # fmt: skip
    hits: dict[str, list[torch.Tensor]] = {"annealed": [], "exact draws": []}
    for seed in range(args.first, args.first + args.count):
        prior, matrix, noise, x, y = problem(seed)
        model = Model(ExactDenoiser(Process(VP(), Cosine()), prior), spec)
        found = model.reconstruct(y[None], Matrix(matrix, (DIMENSIONS,)), noise=noise, draws=DRAWS, seed=seed)
        truth = exact(prior, matrix, noise, y).sample(DRAWS, torch.Generator().manual_seed(seed)).double()
        for name, draws in (("annealed", found.draws[0].double()), ("exact draws", truth)):
            hits[name].append(torch.stack([inside(draws, x, level) for level in LEVELS]))
    result = {}
    for name, rows in hits.items():
        shares = torch.stack(rows).double().mean(2)  # (problems, levels): numbers of a problem are not independent
        means, errors = shares.mean(0), shares.std(0) / math.sqrt(args.count)
        result[name] = [
            {"level": a, "covered": b, "error": c}
            for a, b, c in zip(LEVELS, means.tolist(), errors.tolist(), strict=True)
        ]
        print(name, *(f"{a:.0%}: {b:.1%} ± {c:.1%}" for a, b, c in zip(LEVELS, means, errors, strict=True)), sep="   ")
    if args.out:
        args.out.write_text(json.dumps({"count": args.count, "first": args.first, "coverage": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
