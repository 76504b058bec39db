"""NCSN's chain of sigmas: its levels, and NCSNv2's choice of how many there are."""

import math
from statistics import NormalDist

import pytest
import torch

from sfumato.core import (
    VE,
    VP,
    Cosine,
    LinearBeta,
    LinearLogSNR,
    Process,
    Tabulated,
    betas_at,
    cosine_betas,
    geometric_betas,
    geometric_ratio,
    linear_betas,
)
from sfumato.errors import InputError


@pytest.mark.parametrize(("steps", "low", "high"), [(10, 0.01, 1.0), (232, 0.01, 50.0), (2, 0.3, 4.0), (40, 2.0, 3.0)])
def test_the_levels_are_the_sigmas_in_geometric_progression(steps, low, high):
    chain = Tabulated(geometric_betas(steps, low, high))
    assert chain.steps == steps
    sigma = Process(VE(), chain).level(torch.arange(1, steps + 1).double() / steps).sigma.tolist()
    # A product of T factors, each with the rounding of a beta: largest is the sum's, T u.
    assert sigma == pytest.approx([low * (high / low) ** (k / (steps - 1)) for k in range(steps)], rel=1e-12)


def test_a_single_level_is_the_largest_sigma():
    (beta,) = geometric_betas(1, 0.01, 3.0).tolist()
    assert beta == pytest.approx(9 / 10, rel=1e-13)  # alpha-bar = 1 / (1 + 9)


def test_defaults_are_those_of_the_clock():
    sigma = Process(VE(), Tabulated(geometric_betas(100))).level(torch.tensor([0.01, 1.0], dtype=torch.float64)).sigma
    assert sigma.tolist() == pytest.approx([0.01, 50.0], rel=1e-12)


@pytest.mark.parametrize("steps", [0, -1])
def test_no_levels_are_refused(steps):
    with pytest.raises(InputError, match=rf"^steps: {steps} .*at least 1"):
        geometric_betas(steps)


@pytest.mark.parametrize("betas", [linear_betas(300), cosine_betas(50), torch.tensor([0.3]).double()])
def test_the_betas_at_a_chains_own_levels_are_its_betas(betas):
    chain, T = Tabulated(betas), len(betas)
    again = betas_at(chain.logsnr(torch.arange(1, T + 1).double() / T))
    torch.testing.assert_close(again, betas, rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", [LinearBeta(), Cosine(), LinearLogSNR(-6.0, 11.0)])
def test_a_clock_read_as_a_chain_has_its_levels(schedule):
    T = 37
    k = torch.arange(1, T + 1).double() / T
    betas = betas_at(schedule.logsnr(k))
    torch.testing.assert_close(Tabulated(betas).logsnr(k), schedule.logsnr(k), rtol=1e-10, atol=1e-10)
    # In VP each step is by its beta: 1 - beta_k = alpha_k^2 / alpha_(k-1)^2, alpha_0 = 1.
    alpha = [1.0, *Process(VP(), schedule).level(k).alpha.tolist()]
    assert betas.tolist() == pytest.approx([1 - (alpha[i + 1] / alpha[i]) ** 2 for i in range(T)], rel=1e-8)


# --- technique 2 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [64, 784, 3 * 32**2, 3 * 64**2, 3 * 256**2])
def test_the_ratio_solves_the_equation_of_proposition_2(dimensions):
    r, Phi = geometric_ratio(dimensions), NormalDist().cdf
    across = math.sqrt(2 * dimensions) * (r - 1)
    assert Phi(across + 3 * r) - Phi(across - 3 * r) == pytest.approx(0.5, abs=1e-8)


def test_cifar_has_about_the_papers_levels():
    # Theirs, 232 between 50 and 0.01, reach a little further than one half: 0.567.
    levels = 1 + math.log(50 / 0.01) / math.log(geometric_ratio(3 * 32**2))
    assert levels == pytest.approx(232, rel=0.07)
    r = (50 / 0.01) ** (1 / 231)
    across = math.sqrt(2 * 3 * 32**2) * (r - 1)
    assert NormalDist().cdf(across + 3 * r) - NormalDist().cdf(across - 3 * r) == pytest.approx(0.567, abs=0.001)


def test_few_dimensions_get_ncsns_own_ratio():
    # sqrt(2 D) <= 3, which no ratio solves, and up to D = 28, where the solution is larger.
    assert [geometric_ratio(D) for D in (1, 2, 4, 5, 28)] == [5 / 3] * 5
    assert geometric_ratio(29) < 5 / 3
    assert geometric_ratio(2, most=1.2) == geometric_ratio(64, most=1.2) == 1.2
    # NCSN's ten levels from 1 to 0.01.
    assert pytest.approx(5 / 3, rel=1e-3) == 100 ** (1 / 9)


@pytest.mark.parametrize("dimensions", [0, -3])
def test_no_dimensions_are_refused(dimensions):
    with pytest.raises(
        InputError, match=rf"^dimensions: {dimensions} is not allowed; give a whole number of at least 1$"
    ):
        geometric_ratio(dimensions)
