"""Reverse-diffusion steps as Song et al. 2021 print them, on given noise; and NCSNv2's closed form for the step size.

The belief is any function of the state and its level: here one whose score is known by hand.
"""

import math

import pytest
import torch
from scipy import optimize

from sfumato.core import (
    VE,
    VP,
    Cosine,
    LinearLogSNR,
    Logistic,
    Prediction,
    Process,
    Straight,
    SubVP,
    SubVPBeta,
    Tabulated,
    geometric,
    geometric_betas,
    linear_betas,
)
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError
from sfumato.sampling import annealed_langevin, best_step, chain, reverse_diffusion, run, uniform
from sfumato.sampling.methods import METHODS, tableau

F64 = torch.float64
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
DRAWS = torch.randn(60, 4, 3, generator=torch.Generator().manual_seed(1), dtype=F64)


def noise(draw, like):
    return DRAWS[draw]


def score(x, sigma: float):
    """Any function will do."""
    return -torch.tanh(x) / (0.3 + sigma**2)


class Scored(Denoiser):
    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process

    def forward(self, x_t, t, cond=None):
        level = self.process.level(t)
        eps = -level.sigma * score(x_t, float(level.sigma))
        return Prediction((x_t - level.sigma * eps) / level.alpha, eps)


def start() -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=F64)


@pytest.mark.parametrize("last", [0, 1])
def test_on_a_chain_it_is_equation_46s_of_vp(last):
    T = 20
    betas = linear_betas(T, 0.01, 0.3)
    process = Process(VP(), Tabulated(betas))
    times = chain(T, T) if last == 0 else chain(T, T)[:-1]
    got = run(Scored(process), reverse_diffusion(process, times), start(), noise=noise)
    x, alpha_bar = start(), (1 - betas).cumprod(0)
    for row, k in enumerate(range(T, last, -1)):
        beta, sigma = float(betas[k - 1]), math.sqrt(1 - float(alpha_bar[k - 1]))
        s = score(x, sigma)
        if k == 1:  # to data: x_0-hat by Tweedie's formula
            x = (x + sigma**2 * s) / math.sqrt(float(alpha_bar[0]))
        else:
            x = (2 - math.sqrt(1 - beta)) * x + beta * s + math.sqrt(beta) * DRAWS[row + 1]
    torch.testing.assert_close(got, x, **CLOSE)


@pytest.mark.parametrize("chained", [True, False])
def test_in_ve_it_is_equation_47(chained):
    sigmas = [20.0 * (0.05 / 20.0) ** (i / 9) for i in range(10)]
    if chained:
        process = Process(VE(), Tabulated(geometric_betas(10, 0.05, 20.0)))
        times = chain(10, 10)
    else:
        process = Process(VE(), geometric(0.01, 50.0))
        times = torch.cat((process.schedule.time(-2 * torch.tensor(sigmas, dtype=F64).log()), torch.zeros(1).double()))
    got = run(Scored(process), reverse_diffusion(process, times), start(), noise=noise)
    x = start()
    for row in range(9):
        added = sigmas[row] ** 2 - sigmas[row + 1] ** 2
        x = x + added * score(x, sigmas[row]) + math.sqrt(added) * DRAWS[row + 1]
    x = x + sigmas[-1] ** 2 * score(x, sigmas[-1])
    torch.testing.assert_close(got, x, **CLOSE)


@pytest.mark.parametrize(
    "process",
    [
        Process(VP(), Cosine()),
        Process(Straight(), Logistic(-9.0)),
        Process(SubVP(), SubVPBeta()),
        Process(VE(), LinearLogSNR(-6.0, 8.0)),
    ],
    ids=["VP", "straight", "sub-VP", "VE"],
)
def test_the_forward_steps_drift_is_taken_back_and_its_noise_added_again(process):
    # x_t = gain x_s + sd z forwards, from Process.transition; backwards x + (1 - gain) x + sd^2 score + sd z.
    times = [1.0, 0.85, 0.6, 0.3, 0.1]
    got = run(Scored(process), reverse_diffusion(process, torch.tensor(times, dtype=F64)), start(), noise=noise)
    x, one = start(), torch.ones(1, 1, dtype=F64)
    for row in range(4):
        forward = process.transition(one, times[row + 1], times[row])
        gain, variance = float(forward.mean), float(forward.variance)
        s = score(x, float(process.level(times[row]).sigma))
        x = x + (1 - gain) * x + variance * s + math.sqrt(variance) * DRAWS[row + 1]
    torch.testing.assert_close(got, x, **CLOSE)


def test_a_step_from_pure_noise_is_finite():
    process = Process(Straight(), Logistic())
    table = reverse_diffusion(process, uniform(3))
    assert table.noise[0].tolist() == [1, 1]  # all of the noise was added since any time before
    assert float(table.states[0, 0]) == 1


def test_a_bad_grid_is_refused():
    with pytest.raises(InputError, match=r"^times: entry 1"):
        reverse_diffusion(Process(VP(), Cosine()), torch.tensor([0.2, 0.4], dtype=F64))


def test_pc_is_the_papers_pair():
    process = Process(VE(), Tabulated(geometric_betas(10, 0.05, 20.0)))
    continuous = Process(VE(), geometric(0.05, 20.0))
    for name, predictor in (("pc", "reverse_diffusion"), ("pc-ddim", "ddim(eta=0)")):
        assert tableau(continuous, name, 19).name == f"corrected({predictor}, repeats=1, snr=0.16)"
    assert METHODS["reverse-diffusion"].order is None
    got = run(Scored(process), tableau(process, "reverse-diffusion", 10), start(), noise=noise)
    torch.testing.assert_close(
        got, run(Scored(process), reverse_diffusion(process, chain(10, 10)), start(), noise=noise), rtol=0, atol=0
    )


# --- technique 4 ------------------------------------------------------------------------------------------------------


def variance(epsilon: float, ratio: float, T: int, sigma_L: float) -> float:
    """Song & Ermon 2020, proposition 3: of the samples after T moves at sigma_L, relative to sigma_L^2."""
    settled = 2 * epsilon / (sigma_L**2 - sigma_L**2 * (1 - epsilon / sigma_L**2) ** 2)
    return (1 - epsilon / sigma_L**2) ** (2 * T) * (ratio**2 - settled) + settled


@pytest.mark.parametrize("T", [1, 2, 3, 5, 20, 100])
@pytest.mark.parametrize("ratio", [1.02, 1.0375, 1.3, 5 / 3])
def test_the_best_step_brings_the_variance_nearest_to_one(ratio, T):
    sigma_L = 0.01

    def away(r: float) -> float:
        return abs(variance(r * sigma_L**2, ratio, T, sigma_L) - 1)

    best = optimize.minimize_scalar(away, bounds=(5e-5, 0.5), method="bounded", options={"xatol": 1e-9})
    # A bounded search is a local one: the least of a grid beside it.
    direct = min([*(away(0.5 * k / 2000) for k in range(1, 2001)), float(best.fun)])
    got = best_step(ratio, T) / 2
    assert 5e-5 <= got <= 0.5
    # Ours is of 10,000 values, 5e-5 apart: a parabola's error of a step, and a slope's at the ends.
    assert away(got) <= direct * 1.001 + 2e-6
    if 0.001 < got < 0.499 and best.fun == direct:
        assert got == pytest.approx(float(best.x), abs=2e-4)


def test_the_papers_settings_of_cifar():
    # gamma = 1.0375.., T = 5, epsilon = 6.2e-6 at sigma_L = 0.01: their step is r = 0.062.
    ratio = (50 / 0.01) ** (1 / 231)
    assert best_step(ratio, 5) / 2 == pytest.approx(0.062, abs=0.012)
    assert variance(best_step(ratio, 5) / 2 * 1e-4, ratio, 5, 0.01) <= variance(6.2e-6, ratio, 5, 0.01)


def test_a_level_that_begins_settled_needs_no_moves():
    assert best_step(1.0, 5) == pytest.approx(1e-4)  # the least


def test_annealing_takes_the_best_step_of_its_largest_ratio():
    process = Process(VE(), LinearLogSNR(-8.0, 8.0))
    sigmas = torch.tensor([9.0, 6.0, 5.0, 2.0, 1.6], dtype=F64)  # the largest ratio is 2.5
    times = process.schedule.time(-2 * sigmas.log())
    for grid in (times, torch.cat((times, times.new_zeros(1)))):  # the last denoising is not a ratio
        got, expected = annealed_langevin(process, grid, 4), annealed_langevin(process, grid, 4, best_step(2.5, 4))
        torch.testing.assert_close(got.states, expected.states, rtol=0, atol=1e-4)
        torch.testing.assert_close(got.noise, expected.noise, rtol=1e-4, atol=0)
    single = annealed_langevin(process, torch.cat((times[:1], times.new_zeros(1))), 4)
    assert float(single.states[0, 0]) == pytest.approx(1 - best_step(1.0, 4) / 2, abs=1e-12)
    with pytest.raises(InputError, match=r"^repeats: 0"):
        annealed_langevin(process, times, 0)
