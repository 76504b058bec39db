"""The annealed posterior on the 25-mode problem of the literature, against the exact posterior.

Prior: 25 components N(m_ij, I_d), m_ij = (8 i, 8 j) repeated d/2 times, weights chi-square(1), normalised. Measurement:
y = A x + sigma n with A = U diag(s) V^T from the SVD of a Gaussian matrix, s uniform in (0, 1), sigma uniform in (0, 1)
times the largest of s. Error: the largest 1-D W2 over 100 random projections of 1,000 draws against 10,000 exact ones.
Fewer particles are all taken as draws. The floor is the same for as many exact draws (median of 5). "exact" is the
ratio to the floor of one more set of exact draws: what chance alone does to the ratio.

    python benchmarks/posterior.py --first 1000 --count 20          fresh instances of the same law
    python benchmarks/posterior.py --published modes25_d8.npz       instances from a file of plain arrays
    python benchmarks/posterior.py --d 80 --count 8 --out FILE      in 80 dimensions; adds a line per instance to FILE
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import sfumato
from sfumato.core import Process
from sfumato.core.scalings import VE
from sfumato.core.schedules import geometric
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.restoration import Matrix, Measurement
from sfumato.restoration.annealing import anneal

DRAWS = 1000  # at most
MACHINE = "2 cores of an x86 with AVX-512 and bf16, shared; one thread"
NAMES = ("error", "floor", "ratio", "exact_ratio", "log_evidence_off", "weights_tv", "seconds")
COLUMNS = (
    f"{'d_y':>3} {'instance':>8} {'error':>8} {'floor':>8} {'ratio':>6} {'exact':>6} {'off log p':>12} "
    f"{'weights TV':>10} {'s':>6}"
)


@dataclass
class Exact:
    """A mixture of Gaussians with one covariance, of which ``corner`` is the Cholesky factor."""

    weights: torch.Tensor
    means: torch.Tensor
    corner: torch.Tensor

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        k = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[k] + noise @ self.corner.T


@dataclass
class Instance:
    """One prior and one measurement."""

    weights: torch.Tensor
    means: torch.Tensor
    matrix: torch.Tensor
    y: torch.Tensor
    sigma: float

    @classmethod
    def fresh(cls, seed: int, d: int, d_y: int) -> "Instance":
        g = torch.Generator().manual_seed(seed)
        weights = torch.randn(25, generator=g).double() ** 2
        weights = weights / weights.sum()
        u, _, vt = torch.linalg.svd(torch.randn(d_y, d, generator=g).double(), full_matrices=False)
        s = torch.rand(d_y, generator=g).double().sort(descending=True).values
        matrix = u * s @ vt
        grid = [(-8.0 * i, -8.0 * j) for i in range(-2, 3) for j in range(-2, 3)]
        means = torch.tensor(grid, dtype=torch.float64).repeat(1, d // 2)
        k = int(torch.multinomial(weights, 1, generator=g))
        x = means[k] + torch.randn(d, generator=g)
        sigma = float(torch.rand(1, generator=g) * s.max())
        return cls(weights, means, matrix, matrix @ x + sigma * torch.randn(d_y, generator=g), sigma)

    @classmethod
    def published(cls, path: Path, d_y: int) -> "Instance":
        with np.load(path) as file:
            parts = {k: torch.as_tensor(file[f"dy{d_y}_{k}"]).double() for k in ("weights", "means", "A", "y", "sigma")}
        return cls(parts["weights"], parts["means"], parts["A"], parts["y"], float(parts["sigma"]))

    def posterior(self) -> tuple[Exact, float]:
        """The exact posterior, and log p(y)."""
        d, d_y = self.means.shape[1], len(self.y)
        covariance = torch.linalg.inv(torch.eye(d) + self.matrix.T @ self.matrix / self.sigma**2)
        means = (self.means + self.y @ self.matrix / self.sigma**2) @ covariance
        spread = self.matrix @ self.matrix.T + self.sigma**2 * torch.eye(d_y)
        of_y = torch.distributions.MultivariateNormal(self.means @ self.matrix.T, spread)
        log_weights = self.weights.log() + of_y.log_prob(self.y)
        corner = torch.linalg.cholesky((covariance + covariance.T) / 2)
        return Exact(log_weights.softmax(0), means, corner), float(log_weights.logsumexp(0))


def largest_w2(draws: torch.Tensor, exact: torch.Tensor) -> float:
    """Each exact draw is paired with the draw at its quantile, so that neither number has to divide the other."""
    directions = torch.randn(exact.shape[1], 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    a, b = (x @ directions for x in (draws, exact))
    at = (2 * torch.arange(len(b)) + 1) * len(a) // (2 * len(b))
    return float((a.sort(0).values[at] - b.sort(0).values).pow(2).mean(0).sqrt().max())


def measure(instance: Instance, particles: int, steps: int, seed: int) -> list[float]:
    exact, evidence = instance.posterior()
    g = torch.Generator().manual_seed(seed)
    many = exact.sample(10_000, g)
    count = min(particles, DRAWS)
    floor = float(np.median([largest_w2(exact.sample(count, g), many) for _ in range(5)]))
    denoiser = ExactDenoiser(
        Process(VE(), geometric(1e-9, 1000.0)), GaussianMixture.isotropic(instance.means, 1.0, instance.weights)
    )
    measured = Measurement(Matrix(instance.matrix, instance.means.shape[1:]), instance.y[None], instance.sigma)
    began = time.process_time()
    found = anneal(denoiser, measured, particles, steps, seed=seed, dtype=torch.float64)
    seconds = time.process_time() - began
    draws = found.particles[torch.randperm(particles, generator=g)[:count]]
    mode = torch.cdist(found.particles, instance.means).argmin(1)
    share = torch.bincount(mode, minlength=25) / particles
    of_exact = torch.cdist(many, instance.means).argmin(1)
    off = 0.5 * float((share - torch.bincount(of_exact, minlength=25) / len(many)).abs().sum())
    error, chance = largest_w2(draws, many), largest_w2(exact.sample(count, g), many)
    return [error, floor, error / floor, chance / floor, found.log_evidence - evidence, off, seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dy", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--d", type=int, default=8)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--published", type=Path)
    parser.add_argument("--particles", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(COLUMNS)
    for d_y in args.dy:
        rows = []
        for seed in [27] if args.published else range(args.first, args.first + args.count):
            instance = Instance.published(args.published, d_y) if args.published else Instance.fresh(seed, args.d, d_y)
            rows.append(measure(instance, args.particles, args.steps, seed))
            print(line(d_y, str(seed), rows[-1]), flush=True)
            if args.out:
                settings = {"d": instance.means.shape[1], "readings": d_y, "instance": seed}
                settings |= {"particles": args.particles, "steps": args.steps}
                settings |= {"machine": MACHINE, "sfumato": sfumato.__version__, "torch": torch.__version__}
                with args.out.open("a") as file:
                    file.write(json.dumps(settings | dict(zip(NAMES, rows[-1], strict=True))) + "\n")
        table = np.array(rows)
        table[:, 4] = np.abs(table[:, 4])
        print(line(d_y, "median", np.median(table, 0).tolist()), line(d_y, "largest", table.max(0).tolist()), sep="\n")


def line(d_y: int, name: str, row: list[float]) -> str:
    error, floor, ratio, chance, evidence, off, seconds = row
    assert math.isfinite(error)
    ratios = f"{error:8.3f} {floor:8.3f} {ratio:6.2f} {chance:6.2f}"
    return f"{d_y:>3} {name:>8} {ratios} {evidence:12.3f} {off:10.3f} {seconds:6.1f}"


if __name__ == "__main__":
    main()
