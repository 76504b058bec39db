"""Posteriors of Gaussian priors at equal evaluations of the denoiser, beside those of azula, where it imports.

Three problems: 8 numbers, prior N(m, C) with deviations from 0.1 to 1.5 in random directions, 3 readings by a random
Gaussian matrix, noise 0.1. Everyone gets the exact denoiser of the prior, in float64, and as many evaluations of it.
"score" is sampling with the exact denoiser of the posterior itself: what the sampler alone is off by. "pigdm unit" has
the prior N(m, 1), for which the assumption of PiGDM holds.

Errors: of the mean, root mean square in deviations of the posterior; of the covariance, the Frobenius norm of the
whitened covariance minus 1, over sqrt(8). With a linear denoiser a draw is affine in the noise of its start and of its
steps, so its response to each number of the noise gives both moments exactly; a further draw of random noise checks
that. MMPS with one iteration and DPS are not affine: theirs are of 4,096 draws, which leaves 0.02 and 0.05 to chance.
azula's DPS takes one norm over all samples of a batch, so 32 of its draws are also made one by one (0.2 and 0.5).
azula's times are its own, on two of its schedules.

    python benchmarks/posterior_peers.py           prints the table, writes benchmarks/results/posterior_peers.json
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import sfumato
from sfumato.core import VP, Cosine, Process, SeededNoise
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.restoration import DPS, MMPS, Matrix, Measurement, PiGDM
from sfumato.sampling import run
from sfumato.sampling.methods import tableau

NUMBERS, READINGS, NOISE, DRAWS, ONE_BY_ONE = 8, 3, 0.1, 4096, 32
NOT_AFFINE = ("mmps 1", "dps", "dps alone")
STEPS, SEEDS = (16, 64, 256), (1000, 1001, 1002)
RESULTS = Path(__file__).parent / "results" / "posterior_peers.json"


class Problem:
    """A Gaussian prior, a measurement, and the posterior."""

    def __init__(self, seed: int, unit: bool = False) -> None:
        g = torch.Generator().manual_seed(seed)
        axes, _ = torch.linalg.qr(torch.randn(NUMBERS, NUMBERS, generator=g, dtype=torch.float64))
        spread = torch.logspace(*((0, 0) if unit else (-1, 0.176)), NUMBERS, dtype=torch.float64)
        self.mean = 0.5 * torch.randn(NUMBERS, generator=g, dtype=torch.float64)
        self.covariance = axes * spread**2 @ axes.T
        self.matrix = torch.randn(READINGS, NUMBERS, generator=g, dtype=torch.float64) / NUMBERS**0.5
        x = self.mean + axes * spread @ torch.randn(NUMBERS, generator=g, dtype=torch.float64)
        self.y = self.matrix @ x + NOISE * torch.randn(READINGS, generator=g, dtype=torch.float64)
        precision = torch.linalg.inv(self.covariance) + self.matrix.T @ self.matrix / NOISE**2
        self.of_posterior = torch.linalg.inv(precision)
        pull = torch.linalg.solve(self.covariance, self.mean) + self.matrix.T @ self.y / NOISE**2
        self.posterior_mean = self.of_posterior @ pull

    def errors(self, mean: Tensor, covariance: Tensor) -> tuple[float, float]:
        """Of the mean and of the covariance."""
        off = (mean - self.posterior_mean) / self.of_posterior.diagonal().sqrt()
        root = torch.linalg.inv(torch.linalg.cholesky(self.of_posterior))
        gap = root @ covariance @ root.T - torch.eye(NUMBERS)
        return float(off.pow(2).mean().sqrt()), float(gap.norm() / NUMBERS**0.5)


class Responses:
    """Noise of a start and of ``steps`` steps: none in row 0, one number in each other row, random in the last one."""

    def __init__(self, steps: int) -> None:
        self.draws, self.called = steps + 1, 0
        self.random = torch.randn(self.draws, NUMBERS, generator=torch.Generator().manual_seed(9), dtype=torch.float64)

    @property
    def rows(self) -> int:
        return self.draws * NUMBERS + 2

    def __call__(self, draw: int, like: Tensor) -> Tensor:
        z = torch.zeros(self.rows, NUMBERS, dtype=torch.float64)
        z[1 + draw * NUMBERS : 1 + (draw + 1) * NUMBERS] = torch.eye(NUMBERS)
        z[-1] = self.random[draw]
        return z

    def next(self, like: Tensor) -> Tensor:
        """For a library that asks a global function."""
        self.called += 1
        return self(self.called - 1, like)

    def moments(self, out: Tensor) -> tuple[Tensor, Tensor]:
        response = out[1:-1] - out[0]
        gap = out[-1] - out[0] - self.random.flatten() @ response
        assert float(gap.abs().max()) < 0.01, float(gap.abs().max())
        return out[0], response.T @ response


def ours(problem: Problem, method: str, sampler: str, steps: int) -> tuple[Tensor, Tensor]:
    process = Process(VP(), Cosine())
    measured = Measurement(Matrix(problem.matrix, (NUMBERS,)), problem.y[None], NOISE)
    prior = ExactDenoiser(process, GaussianMixture.gaussian(problem.mean, problem.covariance))
    if method == "score":
        denoiser = ExactDenoiser(process, GaussianMixture.gaussian(problem.posterior_mean, problem.of_posterior))
    else:
        denoiser = {"mmps": MMPS, "pigdm": PiGDM, "dps": DPS}[method.split()[0]](prior, measured)
    table = tableau(process, sampler, steps)
    assert table.evaluations == steps
    if method in NOT_AFFINE:
        seeded = SeededNoise.samples(0, DRAWS)
        start = seeded(0, torch.empty(DRAWS, NUMBERS, dtype=torch.float64))
        return of_draws(run(denoiser, table, start, noise=seeded))
    noise = Responses(len(table.times))
    return noise.moments(run(denoiser, table, noise(0, torch.empty(0)), noise=noise))


def of_draws(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(0), x.T.cov()


def theirs(azula: Any, problem: Problem, method: str, sampler: str, steps: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    affine = method not in NOT_AFFINE
    method, _, iterations = method.partition(" ")
    clock, _, sampler = sampler.partition(" ")
    schedule = {"cosine": azula.noise.CosineSchedule, "vp": azula.noise.VPSchedule}[clock]()

    class Exact(azula.denoise.Denoiser):  # type: ignore[misc, name-defined]
        def __init__(self, mean: Tensor, covariance: Tensor) -> None:
            super().__init__()
            self.schedule, self.mean = schedule, mean
            self.variances, self.axes = torch.linalg.eigh(covariance)

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            alpha, sigma = schedule(t)
            share = alpha * self.variances / (alpha**2 * self.variances + sigma**2)
            mean = self.mean + ((x_t - alpha * self.mean) @ self.axes * share) @ self.axes.T
            return azula.denoise.DiracPosterior(mean=mean)

    prior = Exact(problem.mean, problem.covariance)
    options = {"steps": steps, "silent": True, "dtype": torch.float64}
    samplers = {
        "ddpm": azula.sample.DDPMSampler,
        "ddim": azula.sample.DDIMSampler,
        "xeab 2": lambda d, **o: azula.sample.xEABSampler(d, order=2, **o),
        "zeab 3": lambda d, **o: azula.sample.zEABSampler(d, order=3, **o),
    }

    def act(x: Tensor) -> Tensor:
        return x @ problem.matrix.T

    if method == "score":
        drawer = samplers[sampler](Exact(problem.posterior_mean, problem.of_posterior), **options)
    elif method == "mmps":
        of_noise = azula.linalg.covariance.IsotropicCovariance(torch.tensor(NOISE**2, dtype=torch.float64))
        posterior = azula.guidance.MMPSDenoiser(prior, problem.y, act, of_noise, iterations=int(iterations))
        drawer = samplers[sampler](posterior, **options)
    elif method == "pigdm":
        inverse = torch.linalg.pinv(problem.matrix)
        drawer = azula.guidance.PGDMSampler(prior, problem.y, act, lambda y: y @ inverse.T, **options)
    else:
        drawer = azula.guidance.DPSSampler(prior, problem.y, act, **options)
    if affine:
        noise = Responses(steps)
        with mock.patch("torch.randn_like", noise.next):
            return noise.moments(drawer(drawer.init((noise.rows, NUMBERS), dtype=torch.float64)))
    start = drawer.init((ONE_BY_ONE if iterations == "alone" else DRAWS, NUMBERS), dtype=torch.float64)
    parts = start.split(1) if iterations == "alone" else [start]
    return of_draws(torch.cat([drawer(part) for part in parts]))


OURS = {
    "score": ("dpm++2m-sde", "ddim", "dpm++2m"),
    "mmps": ("dpm++2m-sde", "ddim", "dpm++2m"),
    "pigdm": ("dpm++2m-sde", "ddim"),
    "pigdm unit": ("dpm++2m-sde", "ddim"),
    "dps": ("dpm++2m-sde",),
}
THEIRS = {
    "score": ("cosine ddpm", "cosine ddim", "cosine xeab 2", "cosine zeab 3"),
    "mmps 1": ("cosine ddim",),
    "mmps 3": ("cosine ddpm", "cosine ddim", "cosine zeab 3"),
    "pigdm": ("cosine ddim", "vp ddim"),
    "pigdm unit": ("cosine ddim",),
    "dps": ("cosine ddpm",),
    "dps alone": ("cosine ddpm",),
}
Way = Callable[[Problem, str, str, int], tuple[Tensor, Tensor]]


def imported() -> Any:
    """azula, or None. Its image helpers need torchvision, which posteriors do not; a missing one is left out."""
    try:
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            sys.modules.setdefault(name, ModuleType(name))
        import azula
        import azula.guidance
    except ImportError as error:
        print(f"azula does not import ({error}): only ours is measured")
        return None
    return azula


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    azula = imported()
    versions = {"sfumato": sfumato.__version__, "torch": torch.__version__}
    if azula is not None:
        versions["azula"] = azula.__version__
    record: dict[str, Any] = {
        "machine": "one busy thread of an x86 with AVX-512 and bf16, shared",
        "versions": versions,
        "problems": list(SEEDS),
        "rows": [],
    }
    print(f"{'library':<9}{'method':<11}{'sampler':<15}" + "".join(f"{n:>6}: mean  covariance  seconds" for n in STEPS))
    ways: list[tuple[str, dict[str, tuple[str, ...]], Way]] = [("sfumato", OURS, ours)]
    if azula is not None:
        ways.append(("azula", THEIRS, lambda *args: theirs(azula, *args)))
    for library, methods, way in ways:
        for method, samplers in methods.items():
            problems = [Problem(seed, method == "pigdm unit") for seed in SEEDS]
            for sampler in samplers:
                cells = ""
                for steps in STEPS:
                    began = time.process_time()
                    found = torch.tensor([one.errors(*way(one, method, sampler, steps)) for one in problems])
                    seconds = (time.process_time() - began) / len(problems)
                    record["rows"].append(
                        {"library": library, "method": method, "sampler": sampler, "steps": steps}
                        | {"mean": found[:, 0].tolist(), "covariance": found[:, 1].tolist(), "seconds": seconds}
                    )
                    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
                    worst = found.amax(0).tolist()
                    cells += f"{worst[0]:>12.3f}{worst[1]:>12.3f}{seconds:>9.1f}"
                print(f"{library:<9}{method:<11}{sampler:<15}{cells}", flush=True)


if __name__ == "__main__":
    main()
