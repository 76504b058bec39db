"""Discrete chains and SDEs make the same samples in the limit, exactly followed on a one-dimensional Gaussian.

A row of a one-step sampler is ``x' = a x + b x_0-hat + s z``; for data N(m, v) beliefs are ``x_0-hat = (sigma^2 m +
alpha v x) / (alpha^2 v + sigma^2)``: mean and variance of the samples follow by recursion on the table's numbers, with
no network, no noise and no sampler's loop.
"""

import math
from collections.abc import Callable

import pytest
from torch import Tensor

from sfumato.core import VE, VP, LinearBeta, Process, Tabulated, geometric, geometric_betas, linear_betas
from sfumato.sampling import Tableau, ancestral, chain, euler_maruyama, reverse_diffusion, uniform

# Process.sde differentiates forwards, for which torch imports a module of its own that warns of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

MEAN, VARIANCE = 0.8, 0.3
LOW, HIGH = 0.05, 5.0


def moments(process: Process, make: Callable[[Process, Tensor], Tableau], times: Tensor) -> tuple[float, float]:
    """Mean and variance of what the sampler makes of its prior for data N(MEAN, VARIANCE).

    A table has the square of its rows in numbers; a one-step sampler's is cut into pieces.
    """
    mean, variance = 0.0, float(process.prior(float(times[0])).variance)
    for i in range(0, len(times) - 1, 100):
        table = make(process, times[i : i + 101])
        level = process.level(table.times)
        total = level.alpha**2 * VARIANCE + level.sigma**2
        pull = table.estimates.diagonal()
        gains = table.states.diagonal() + pull * level.alpha * VARIANCE / total
        pushes = pull * level.sigma**2 * MEAN / total
        for gain, push, std in zip(gains.tolist(), pushes.tolist(), table.noise[:, 0].tolist(), strict=True):
            mean, variance = gain * mean + push, gain**2 * variance + std**2
    return mean, variance


def ddpm(T: int) -> Process:
    """beta_k = beta(k / T) / T of the linear rate."""
    return Process(VP(), Tabulated(linear_betas(T, (0.1 + 19.9 / T) / T, 20 / T)))


def ncsn(T: int) -> Process:
    return Process(VE(), Tabulated(geometric_betas(T, LOW, HIGH)))


SDES = {
    "DDPM": (ddpm, Process(VP(), LinearBeta(0.1, 20.0))),
    "NCSN": (ncsn, Process(VE(), geometric(LOW, HIGH))),
}


def of_the_sde(name: str, steps: int) -> tuple[float, float]:
    """Of Euler and Maruyama's steps, extrapolated to infinitely many."""
    process = SDES[name][1]
    coarse, fine = (moments(process, euler_maruyama, uniform(N)) for N in (steps, 2 * steps))
    return 2 * fine[0] - coarse[0], 2 * fine[1] - coarse[1]


@pytest.mark.parametrize("sampler", [ancestral, reverse_diffusion], ids=["ancestral", "reverse diffusion"])
@pytest.mark.parametrize("name", SDES)
def test_the_chains_samples_become_the_sdes(name, sampler):
    make, limit = SDES[name][0], of_the_sde(name, 8000)
    errors = []
    for T in (500, 1000, 2000):
        process = make(T)
        got = moments(process, sampler, chain(T, T))
        errors.append([abs(got[i] - limit[i]) for i in (0, 1)])
    for i in (0, 1):
        if max(error[i] for error in errors) < 1e-5:  # no step is wrong in the mean: what is left is the limit's error
            assert i == 0
            continue
        for coarse, fine in ((0, 1), (1, 2)):
            assert math.log2(errors[coarse][i] / errors[fine][i]) == pytest.approx(1, abs=0.15)
        assert errors[2][i] < 0.005


@pytest.mark.parametrize("name", SDES)
def test_the_sdes_own_steps_converge_at_first_order_to_the_same(name):
    process, limit = SDES[name][1], of_the_sde(name, 8000)
    errors = []
    for N in (1000, 2000):
        got = moments(process, euler_maruyama, uniform(N))
        errors.append(abs(got[1] - limit[1]))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.15)


def test_the_limit_is_the_data_but_for_the_ends_of_the_process():
    # VP begins at data and ends with alpha = 0.0066 of N(0, 1) for N(0.005, 1 - 3e-5), of which little is left.
    mean, variance = of_the_sde("DDPM", 8000)
    assert mean == pytest.approx(MEAN, abs=1e-4)
    assert variance == pytest.approx(VARIANCE, rel=1e-3)
    # VE starts from N(0, 1 + 25) for N(0.8, 0.3 + 25), and the last denoising takes Var(x_0 | x) at sigma = 0.05 away.
    mean, variance = of_the_sde("NCSN", 8000)
    assert mean == pytest.approx(MEAN, abs=0.02)
    lost = 1 / (1 / VARIANCE + 1 / LOW**2)
    assert variance == pytest.approx(VARIANCE - lost, rel=2e-3)
