"""Calls of every public function that takes a count, an order or a seed, by a name that ends in the argument's.

Run as a program, it makes each call with values that are no integers, and prints a line for each that is not refused by
one clear error. It is a process of its own, because the checks of types in tests would refuse them first.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from sfumato import core, likelihood, networks, objectives, sampling
from sfumato.bounds import ContinuousGaussian
from sfumato.data import TOYS, DataOptions
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.evaluation.wasserstein import directions, sliced_wasserstein
from sfumato.hierarchical import GaussianMLP, MarkovianHVAE
from sfumato.numerics.density import Density
from sfumato.sampling import certification, fitting, grids, methods
from sfumato.training import Keep

PROCESS = core.Process(core.VP(), core.LinearLogSNR())
TIMES = torch.tensor([0.9, 0.5, 0.2, 0.0], dtype=torch.float64)
RISING = torch.tensor([0.01, 0.5, 1.0], dtype=torch.float64)
DENOISER = ExactDenoiser(PROCESS, GaussianMixture.gaussian(torch.zeros(2).double(), torch.eye(2).double()))
X = torch.tensor([[0.5, -1.0], [1.0, 0.2], [-0.3, 0.4], [0.0, 1.0]])
PATHS = fitting.Trajectories(X.double(), X.double())
GRID = core.ValueGrid(-1.0, 0.1, 21)
DECODER = ContinuousGaussian()
UNIFORM = objectives.UniformTimes(0.01)


def noise(draw: int, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like)


def fine(**given: Any) -> Any:
    return fitting.trajectories(DENOISER, (2,), **{"count": 4, "evaluations": 4, **given})


def unet(**given: Any) -> Any:
    return networks.UNet(**{"shape": (1, 8, 8), "width": 8, "multipliers": (1,), "blocks": 1, "attention": (), **given})


CALLS: dict[str, Callable[[Any], Any]] = {
    "grids.uniform steps": lambda n: grids.uniform(n),
    "grids.quadratic steps": lambda n: grids.quadratic(n),
    "grids.chain steps": lambda n: grids.chain(n, 8),
    "grids.chain length": lambda n: grids.chain(3, n),
    "grids.uniform_logsnr steps": lambda n: grids.uniform_logsnr(PROCESS, n),
    "grids.rho steps": lambda n: grids.rho(PROCESS, n),
    "grids.angle steps": lambda n: grids.angle(PROCESS, n),
    "methods.in_time steps": lambda n: methods.in_time(PROCESS, n),
    "methods.auto evaluations": lambda n: methods.auto(PROCESS, n),
    "methods.tableau evaluations": lambda n: methods.tableau(PROCESS, "ddim", n),
    "adams order": lambda n: sampling.adams(PROCESS, TIMES, n),
    "dpm_solver_pp order": lambda n: sampling.dpm_solver_pp(PROCESS, TIMES, n),
    "unipc order": lambda n: sampling.unipc(PROCESS, TIMES, n),
    "dpm_solver_singlestep order": lambda n: sampling.dpm_solver_singlestep(PROCESS, TIMES, n),
    "ddim_inversion iterations": lambda n: sampling.ddim_inversion(PROCESS, TIMES, n),
    "langevin repeats": lambda n: sampling.langevin(PROCESS, 0.5, n, 0.1),
    "annealed_langevin repeats": lambda n: sampling.annealed_langevin(PROCESS, TIMES, n),
    "best_step repeats": lambda n: sampling.best_step(2.0, n),
    "corrected repeats": lambda n: sampling.corrected(PROCESS, TIMES, repeats=n),
    "repaint jump": lambda n: sampling.repaint(PROCESS, TIMES, jump=n, repeats=2),
    "repaint repeats": lambda n: sampling.repaint(PROCESS, TIMES, jump=2, repeats=n),
    "trajectories count": lambda n: fine(count=n),
    "trajectories seed": lambda n: fine(seed=n),
    "trajectories evaluations": lambda n: fine(evaluations=n),
    "trajectories batch": lambda n: fine(batch=n),
    "check_budget evaluations": fitting.check_budget,
    "numbers_of evaluations": fitting.numbers_of,
    "certify budgets": lambda n: certification.certify(DENOISER, PATHS, methods=["ddim"], budgets=[n]),
    "certify seed": lambda n: certification.certify(DENOISER, PATHS, methods=["ancestral"], budgets=[2], seed=n),
    "linear_betas steps": lambda n: core.linear_betas(n),
    "quadratic_betas steps": lambda n: core.quadratic_betas(n),
    "sigmoid_betas steps": lambda n: core.sigmoid_betas(n),
    "cosine_betas steps": lambda n: core.cosine_betas(n),
    "geometric_betas steps": lambda n: core.geometric_betas(n),
    "geometric_ratio dimensions": lambda n: core.geometric_ratio(n),
    "LearnedLogSNR cells": lambda n: core.LearnedLogSNR(cells=n),
    "Density cells": Density,
    "SeededNoise seed": lambda n: core.SeededNoise.samples(n, 2),
    "SeededNoise count": lambda n: core.SeededNoise.samples(0, n),
    "walk_times steps": lambda n: likelihood.walk_times(PROCESS, n),
    "walk draws": lambda n: likelihood.walk(DENOISER, X, DECODER, RISING, draws=n),
    "walk seed": lambda n: likelihood.walk(DENOISER, X, DECODER, RISING, draws=1, seed=n),
    "walk batch": lambda n: likelihood.walk(DENOISER, X, DECODER, RISING, draws=1, batch=n),
    "estimate seed": lambda n: likelihood.estimate(DENOISER, X, DECODER, RISING, evaluations=30, seed=n),
    "estimate batch": lambda n: likelihood.estimate(DENOISER, X, DECODER, RISING, evaluations=30, batch=n),
    "flow_likelihood probes": lambda n: likelihood.flow_likelihood(DENOISER, X, tolerance=0.1, probes=n),
    "flow_likelihood seed": lambda n: likelihood.flow_likelihood(DENOISER, X, tolerance=0.1, probes=1, seed=n),
    "flow_likelihood batch": lambda n: likelihood.flow_likelihood(DENOISER, X, tolerance=0.1, batch=n),
    "dequantised_likelihood draws": lambda n: likelihood.dequantised_likelihood(
        DENOISER, X, GRID, by="uniform", tolerance=0.1, draws=n
    ),
    "GaussianMixture.sample count": lambda n: DENOISER.distribution.sample(n, torch.Generator()),
    "Toy.sample n": lambda n: TOYS["moons"].sample(n, 0),
    "Toy.sample seed": lambda n: TOYS["moons"].sample(2, n),
    "directions count": lambda n: directions(2, 0, n),
    "directions seed": lambda n: directions(2, n, 2),
    "sliced_wasserstein seed": lambda n: sliced_wasserstein(X, X, n),
    "SlicedScoreMatching projections": lambda n: objectives.SlicedScoreMatching(UNIFORM, n),
    "ImplicitScoreMatching probes": lambda n: objectives.ImplicitScoreMatching(UNIFORM, n),
    "MLP depth": lambda n: networks.MLP((2,), width=8, depth=n),
    "UNet blocks": lambda n: unet(blocks=n),
    "UNet heads": lambda n: unet(shape=(1, 9, 9), heads=n, groups=3, width=6),
    "UNet outputs": lambda n: unet(outputs=n),
    "UNet conditions": lambda n: unet(conditions=n),
    "GaussianMLP depth": lambda n: GaussianMLP(2, 2, 8, n),
    "MarkovianHVAE depth": lambda n: MarkovianHVAE((2,), (2,), 8, n),
    "MarkovianHVAE.sample count": lambda n: MarkovianHVAE((2,), (2,), 8, 1).sample(n, noise),
}
"""An argument whose value of 3, or where that is not allowed another, is accepted."""

FIELDS: dict[str, Callable[[Any], Any]] = {
    "ChainTimes steps": objectives.ChainTimes,
    "ValueGrid count": lambda n: core.ValueGrid(0.0, 1.0, n),
    "LikelihoodOptions draws": lambda n: likelihood.LikelihoodOptions(draws=n),
    "DataOptions data.count": lambda n: DataOptions(count=n),
    "Keep last": lambda n: Keep(n),
}
"""Fields of values, whose checks of types in tests allow only int."""

NONE = (1.5, 3.0, "a", "3", True, [3], torch.tensor([3, 3]))


def failures() -> Iterator[str]:
    for name, call in {**CALLS, **FIELDS}.items():
        argument = name.split()[-1]
        for value in NONE:
            try:
                call(value)
            except InputError as error:
                if not str(error).startswith(f"{argument}: ") or "is not a whole number" not in str(error):
                    yield f"{name}={value!r}: says {error}"
            except Exception as error:
                yield f"{name}={value!r}: {type(error).__name__}: {error}"
            else:
                yield f"{name}={value!r} is accepted"


if __name__ == "__main__":
    print(*failures(), sep="\n")
