"""Likelihoods under exact denoisers, where the truth is known: the flow against scipy, the bound against the walk.

    python benchmarks/likelihood_oracles.py --out benchmarks/results/likelihood_oracles.json

The peer is the method of the score SDE's code (Song et al. 2021): the whole batch as one state of scipy's RK45 at rtol
= atol = 1e-5 from t = 1e-5, in its VP SDE, with an exact trace. RMS errors are in bits/dim, against the density itself.
"""

import argparse
import json
import math
import platform
import time
from pathlib import Path

import numpy as np
import scipy
import torch
from scipy.integrate import solve_ivp

import sfumato
from sfumato.bounds import ContinuousGaussian
from sfumato.core import VP, LinearBeta, LinearLogSNR, Process, Tabulated, linear_betas
from sfumato.denoisers import Denoiser, ExactDenoiser, GaussianMixture
from sfumato.likelihood import Span, estimate, finest_time, flow_likelihood, walk, walk_times
from sfumato.numerics.divergence import divergence

SAMPLES = 64


def targets() -> dict[str, GaussianMixture]:
    """25 modes in the plane; a Gaussian and a mixture of five with full covariances in 64 dimensions."""
    generator = torch.Generator().manual_seed(1)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    along = 0.7 * torch.arange(-2, 3).double()
    root = randn(2, 2) / 2
    wide = randn(64, 64) / 8
    roots = randn(5, 64, 64) / 8
    eye = torch.eye(64, dtype=torch.float64)
    return {
        "25 modes, 2-D": GaussianMixture.isotropic(torch.cartesian_prod(along, along), 0.1),
        "Gaussian, 2-D": GaussianMixture.gaussian(0.3 * randn(2), root @ root.T + 0.05 * torch.eye(2).double()),
        "Gaussian, 64-D": GaussianMixture.gaussian(0.3 * randn(64), wide @ wide.T / 2 + 0.05 * eye),
        "mixture, 64-D": GaussianMixture(
            torch.full((5,), 0.2), 0.7 * randn(5, 64), 0.3 * roots @ roots.mT + 0.02 * eye
        ),
    }


def peer(denoiser: Denoiser, x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(log p, evaluations) by scipy's RK45 on the whole batch."""
    process, (B, D) = denoiser.process, x.shape
    count = 0

    def rate(t: float, state: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        time = torch.tensor(float(t), dtype=torch.float64)
        f, g2 = process.sde(time)
        sigma = process.level(time).sigma

        def drift(y: torch.Tensor) -> torch.Tensor:
            return f * y + 0.5 * g2 * denoiser(y, time, None).eps / sigma

        velocity, trace = divergence(drift, torch.from_numpy(state[: B * D].reshape(B, D).copy()))
        return np.concatenate([velocity.numpy().ravel(), trace[:, 0].numpy()])

    start = np.concatenate([x.numpy().ravel(), np.zeros(B)])
    end = solve_ivp(rate, (1e-5, 1), start, method="RK45", rtol=1e-5, atol=1e-5).y[:, -1]
    z = torch.from_numpy(end[: B * D].reshape(B, D))
    normal = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
    return normal + torch.from_numpy(end[B * D :]), count


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name, mixture in targets().items():
        x = mixture.sample(SAMPLES, torch.Generator().manual_seed(5))
        D = x.shape[1]
        truth = mixture.log_prob(x)

        def rms(log_prob: torch.Tensor, truth: torch.Tensor = truth, D: int = D) -> float:
            return float((log_prob - truth).square().mean().sqrt()) / (D * math.log(2))

        row: dict[str, object] = {"truth": float(-truth.mean()) / (D * math.log(2))}
        sde = ExactDenoiser(Process(VP(), LinearBeta()), mixture)
        log_prob, evaluations = peer(sde, x)
        row["scipy RK45"] = {"rms": rms(log_prob), "evaluations": evaluations}
        # An error that no solver can avoid: the end of this process is not exactly its prior.
        row["limit"] = rms(-flow_likelihood(sde, x, tolerance=1e-9).nats)
        found = flow_likelihood(sde, x)
        row["flow"] = {"rms": rms(-found.nats), "evaluations": found.evaluations}
        probed = flow_likelihood(sde, x, probes=4)
        row["flow, 4 probes"] = {"rms": rms(-probed.nats), "method_error": probed.estimate.method}

        chain = ExactDenoiser(Process(VP(), Tabulated(linear_betas(1000))), mixture)
        started = time.perf_counter()
        whole = walk(chain, x, ContinuousGaussian(), walk_times(chain.process), draws=10)
        seconds = time.perf_counter() - started
        inside, errors = 0, []
        for seed in range(1, 101):
            few = estimate(chain, x, ContinuousGaussian(), walk_times(chain.process), evaluations=50, seed=seed)
            error = math.hypot(few.estimate.method, whole.estimate.method)
            inside += abs(few.estimate.mean - whole.estimate.mean) < 1.96 * error
            errors.append(few.estimate.method)
        row["chain of 1000"] = {
            "whole walk": [whole.estimate.mean, whole.estimate.method],
            "50 evaluations: within 1.96 errors of it, of 100": inside,
            "50 evaluations: median error of the method": float(np.median(errors)),
            "seconds of ten whole walks": round(seconds, 2),
        }
        line = ExactDenoiser(Process(VP(), LinearLogSNR(-14.0, 13.3)), mixture)
        span = estimate(line, x, ContinuousGaussian(), Span(finest_time(line.process)), evaluations=300)
        row["continuous bound"] = [span.estimate.mean, span.estimate.method]
        for variance, label in ((0.0, "posterior"), (1.0, "beta")):
            row[f"bound by steps, {label} variance"] = {
                str(T): walk(
                    line, x, ContinuousGaussian(), walk_times(line.process, T), variance=variance
                ).estimate.mean
                for T in (10, 30, 100, 300, 1000)
            }
        results[name] = row
        print(name, json.dumps(row, indent=2), flush=True)
    if args.out:
        about = {
            "sfumato": sfumato.__version__,
            "torch": torch.__version__,
            "scipy": scipy.__version__,
            "machine": f"{platform.machine()}, one thread",
        }
        args.out.write_text(json.dumps({**about, "samples": SAMPLES, "targets": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
