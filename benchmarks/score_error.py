"""The error of learned scores: one network trained by each kind of score matching, against the true score.

    python benchmarks/score_error.py --out benchmarks/results/score_error.json

The data is a mixture of five unequal Gaussians with full covariances, in 2 and in 16 dimensions, whose score is known
at every level. The process is VE, with sigma geometric from half the smallest standard deviation of any component. All
objectives train the same MLP with the same optimiser. Denoising is trained twice: for about the time that sliced score
matching takes, and longer. The table shows ``sqrt(E |s_hat - s|^2 / E |s|^2)`` in percent at each level, over fresh
noisy samples of that level. Settings were chosen on other samples than those measured. `--only NAME ...` trains some
objectives and keeps the rest of the file.
"""

import argparse
import json
import math
import platform
import time
from pathlib import Path

import torch

import sfumato
from sfumato.core import EDM, VE, Process, SeededNoise, geometric
from sfumato.denoisers import GaussianMixture, NetworkDenoiser
from sfumato.networks import MLP
from sfumato.numerics import random
from sfumato.objectives import Batch, DenoisingLoss, Objective, UniformTimes
from sfumato.objectives.score_matching import ExplicitScoreMatching, ImplicitScoreMatching, SlicedScoreMatching
from sfumato.objectives.times import stratify
from sfumato.objectives.weights import simple
from sfumato.training.ema import EMA

BATCH = 1024
STEPS = 6_000
LONGER = {2: 30_000, 16: 40_000}  # by the dimension of the data
SIGMAS = (0.2, 5.0)
LEVELS = 6  # levels that are measured, evenly over the times
FRESH = 20_000  # samples per level
WIDTH = 64


def mixture(dimensions: int, seed: int) -> GaussianMixture:
    """Five unequal components whose covariances have random axes and standard deviations from 0.4 to 1."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(5, dimensions, generator=generator, dtype=torch.float64)
    means = 2 * means / means.norm(dim=1, keepdim=True) * torch.tensor([[0.3], [1.0], [1.0], [1.2], [1.2]])
    axes, _ = torch.linalg.qr(torch.randn(5, dimensions, dimensions, generator=generator, dtype=torch.float64))
    stds = torch.linspace(0.4, 1.0, dimensions, dtype=torch.float64)
    covariances = axes * stds**2 @ axes.mT
    return GaussianMixture(torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3]), means, covariances)


def objectives(truth: GaussianMixture) -> dict[str, tuple[Objective, int]]:
    """Each objective, with all levels weighted equally, and its steps."""
    times, dimensions = UniformTimes(), truth.means.shape[1]
    found: dict[str, tuple[Objective, int]] = {
        "denoising, longer": (DenoisingLoss(times, simple), LONGER[dimensions]),
        "implicit, 1 probe (sliced VR)": (ImplicitScoreMatching(times, probes=1), STEPS),
        "sliced, 1 projection": (SlicedScoreMatching(times), STEPS),
        "explicit": (ExplicitScoreMatching(times, truth.predict), 2 * STEPS),
        "denoising": (DenoisingLoss(times, simple), 2 * STEPS),
    }
    if dimensions == 2:  # in 16 dimensions a step takes fifteen times as long as one of denoising
        found["implicit, exact trace"] = (ImplicitScoreMatching(times), STEPS)
    return found


def fresh_denoiser(truth: GaussianMixture, seed: int) -> NetworkDenoiser:
    """The network that each objective starts from."""
    torch.manual_seed(seed)
    dimensions = truth.means.shape[1]
    data = truth.sample(100_000, torch.Generator().manual_seed(seed))
    network = MLP((dimensions,), width=WIDTH, depth=2, embedding="fourier")
    std = float(data.var(0).mean().sqrt())
    return NetworkDenoiser(network, Process(VE(), geometric(*SIGMAS)), EDM(std), label="log-ratio", sigma_data=std)


def train(objective: Objective, truth: GaussianMixture, steps: int, seed: int, rate: float = 5e-3) -> NetworkDenoiser:
    """The averaged denoiser after Adam with a rate that falls to zero along a cosine."""
    denoiser = fresh_denoiser(truth, seed)
    parameters = list(denoiser.parameters())
    optimiser = torch.optim.Adam(parameters, betas=(0.9, 0.99))
    ema = EMA(denoiser, (0.1,))
    generator = torch.Generator().manual_seed(random.derive(seed, "data"))
    index = torch.arange(BATCH)
    for step in range(1, steps + 1):
        optimiser.param_groups[0]["lr"] = rate * min(1, step / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        keys = random.keys(random.derive(seed, step), index)
        t = stratify(random.uniform(keys, 0, 1)[:, 0], index, BATCH)
        x_0 = truth.sample(BATCH, generator).float()
        optimiser.zero_grad()
        objective(denoiser, Batch(x_0, t, SeededNoise(keys))).mean().backward()
        optimiser.step()
        ema.update(parameters, step * BATCH, BATCH)
    return ema.modules[0]


@torch.no_grad()
def relative_errors(denoiser: NetworkDenoiser, truth: GaussianMixture, seed: int) -> list[float]:
    """At each level in percent: ``|eps_hat - eps| / |eps|`` in the mean square, which equals that of the score."""
    x_0 = truth.sample(FRESH, torch.Generator().manual_seed(random.derive(seed, "fresh"))).float()
    errors = []
    for k, t in enumerate(torch.linspace(0, 1, LEVELS, dtype=torch.float64)):
        x_t = denoiser.process.perturb(x_0, t, SeededNoise.samples(random.derive(seed, "fresh", k), FRESH)(0, x_0))
        true = truth.predict(x_t.double(), denoiser.process.level(t)).eps
        error = denoiser(x_t, t).eps.double() - true
        errors.append(100 * float((error.square().sum() / true.square().sum()).sqrt()))
    return errors


def main() -> None:
    """Train, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        default=[],
        help="objectives, by the beginning of their names",
    )
    parser.add_argument("--dimensions", nargs="+", type=int, choices=list(LONGER), default=list(LONGER))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
    about = {
        "sfumato": sfumato.__version__,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, one thread",
        "seed": args.seed,
        "batch": BATCH,
    }
    results = kept.get("relative error, percent", {})
    for dimensions in args.dimensions:
        truth = mixture(dimensions, args.seed)
        levels = Process(VE(), geometric(*SIGMAS)).level(torch.linspace(0, 1, LEVELS)).sigma.tolist()
        print(f"\n| {dimensions}-D, sigma | " + " | ".join(f"{sigma:.2f}" for sigma in levels) + " | ms per step |")
        print("|---|" + "---|" * (LEVELS + 1))
        rows = results.setdefault(f"{dimensions}-D", {})
        for name, (objective, steps) in objectives(truth).items():
            if args.only and not name.startswith(tuple(args.only)):
                continue
            start = time.process_time()
            denoiser = train(objective, truth, steps, args.seed)
            spent = time.process_time() - start
            errors = relative_errors(denoiser, truth, args.seed)
            rows[name] = {
                "steps": steps,
                "ms a step": round(1000 * spent / steps, 1),
                "by sigma": {f"{sigma:.3f}": round(error, 2) for sigma, error in zip(levels, errors, strict=True)},
            }
            print(
                f"| {name} | " + " | ".join(f"{e:.1f}" for e in errors) + f" | {1000 * spent / steps:.0f} |", flush=True
            )
            if args.out:
                args.out.write_text(json.dumps({**about, "relative error, percent": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
