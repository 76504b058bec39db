"""The order of convergence of every deterministic sampler, measured: a row a method, and one line to add another.

Where the flow is known. Gaussian data: along an eigen-direction of variance v and mean m, (x_t - alpha m) /
sqrt(alpha^2 v + sigma^2) is conserved. A mixture of Gaussians: in y = x_t / alpha and lambda = -log(sigma / alpha) the
flow is dy / dlambda = rho^2 score(y, rho), typed out here and solved by scipy to 1e-13.

What is measured is the order inside a run: grids of N steps, over a decade of N, that end above data, and whose first
steps are so small that the lower order of a multistep method's start does not show (their size grows like k / N^2).
What the ends do to the order, an even start and the last step to data, is measured apart, in the last tests.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from sfumato.core import VE, VP, Cosine, LinearLogSNR, Logistic, Process, Straight
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.sampling import (
    Tableau,
    adams,
    ddim,
    dpm_solver_pp,
    run,
    uniform,
)
from sfumato.sampling.methods import METHODS

# Process.sde differentiates forwards, for which torch imports a module of its own that warns of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

NOISY, CLEAN = -5.0, 0.0  # log-SNRs; in between, most of the way from noise to the mixture is gone
COARSEST = {1: 10, 2: 16, 3: 30, 4: 50, 5: 64}  # the smallest N of the decade: a higher order shows later
F64 = torch.float64


@dataclass(frozen=True)
class Row:
    """A sampler with its order."""

    table: Callable[[Process, torch.Tensor], Tableau]
    order: int


# Those that have a name. Written out, not read from METHODS: what is claimed there must agree.
NAMED = {
    "ddim": 1,
    "euler": 1,
    "heun": 2,
    "dpm2": 2,
    "dpm3": 3,
    "dpm++2s": 2,
    "dpm++3s": 3,
    "dpm++2m": 2,
    "dpm++3m": 3,
    "deis2": 2,
    "deis3": 3,
    "deis4": 4,
    "lms2": 2,
    "lms4": 4,
    "straight2": 2,
    "unipc2": 3,
    "unipc3": 4,
    "adams2": 2,
    "adams3": 4,
    "adams4": 5,
}
PATHS = ("x_0", "eps", "sigma", "straight", "angle")
TABLE = {
    **{name: Row(METHODS[name].table, order) for name, order in NAMED.items()},
    "dpm++1": Row(partial(dpm_solver_pp, order=1), 1),
    **{f"{a} {q}": Row(partial(adams, order=q, along=a, corrector=False), q) for a in PATHS for q in (1, 2, 3, 4)},
    **{f"{a} {q} corrected": Row(partial(adams, order=q, along=a), q + 1) for a in PATHS for q in (1, 2, 3, 4)},
    **{f"angle {q} rebased": Row(partial(adams, order=q, rebase=True), q + 1) for q in (2, 3, 4)},
}
SAME = {"deis2": "eps 2", "deis3": "eps 3", "deis4": "eps 4", "lms2": "sigma 2", "lms4": "sigma 4"} | {
    "straight2": "straight 2",
    "adams2": "angle 2",
    "adams3": "angle 3 corrected",
    "adams4": "angle 4 corrected",
}
each_row = pytest.mark.parametrize("name", [name for name in TABLE if name not in SAME])
UNITS = {
    "VP": Process(VP(), Cosine()),
    "VE": Process(VE(), LinearLogSNR(-8.0, 8.0)),
    "straight": Process(Straight(), Logistic()),
}


def decade(order: int) -> list[int]:
    return [COARSEST[order], 10 * COARSEST[order]]


def slope(steps: list[int], errors: list[float]) -> float:
    """The order: minus the slope of log error against log N, by least squares."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def graded(process: Process, steps: int) -> torch.Tensor:
    """Times from NOISY to CLEAN, even in the square root of the log-SNR's way."""
    share = torch.linspace(0, 1, steps + 1, dtype=F64) ** 2
    return process.schedule.time(NOISY + share * (CLEAN - NOISY))


GAUSSIAN = GaussianMixture.gaussian(
    torch.tensor([1.0, -0.5, 0.3], dtype=F64), torch.tensor([0.4, 1.0, 2.0], dtype=F64).diag()
)
MIXTURE = GaussianMixture(
    torch.tensor([0.5, 0.3, 0.2], dtype=F64),
    torch.tensor([[1.2, 0.0], [-0.8, 0.9], [-0.4, -1.2]], dtype=F64),
    torch.tensor([[[0.8, 0.3], [0.3, 0.6]], [[0.5, 0.0], [0.0, 1.0]], [[0.6, 0.0], [0.0, 0.6]]], dtype=F64),
)


def normal(count: int, width: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0), dtype=F64)


def gaussian_state(alpha: float, sigma: float) -> torch.Tensor:
    """48 points of one and the same flow, at a level."""
    variances = GAUSSIAN.covariances[0].diagonal()
    return alpha * GAUSSIAN.means[0] + torch.sqrt(alpha**2 * variances + sigma**2) * normal(48, 3)


@pytest.fixture(scope="module")
def mixture_flow() -> tuple[torch.Tensor, torch.Tensor]:
    """x_t / alpha at NOISY and at CLEAN, along the flow."""
    weights, means, covariances = (v.numpy() for v in (MIXTURE.weights, MIXTURE.means, MIXTURE.covariances))

    def velocity(lam: float, flat: np.ndarray) -> np.ndarray:
        rho2, y = math.exp(-2 * lam), flat.reshape(-1, 2)
        logs, pulls = [], []
        for w, m, c in zip(weights, means, covariances, strict=True):
            spread = c + rho2 * np.eye(2)
            pulls.append(np.linalg.solve(spread, (m - y).T).T)
            logs.append(np.log(w) - 0.5 * np.log(np.linalg.det(spread)) - 0.5 * ((m - y) * pulls[-1]).sum(1))
        share = np.exp(logs - np.max(logs, axis=0))
        return (rho2 * (share[:, :, None] * np.stack(pulls)).sum(0) / share.sum(0)[:, None]).ravel()

    start = math.exp(-NOISY / 2) * normal(48, 2)
    end = solve_ivp(velocity, (NOISY / 2, CLEAN / 2), start.numpy().ravel(), "DOP853", rtol=1e-13, atol=1e-13)
    return start, torch.from_numpy(end.y[:, -1].reshape(-1, 2))


def errors_of(row: Row, process: Process, steps: int, mixture_flow) -> tuple[float, float]:
    """RMS errors at CLEAN, in units of x_t / alpha: (Gaussian, mixture)."""
    times = graded(process, steps)
    tableau, first, last = row.table(process, times), process.level(times[0]), process.level(times[-1])
    got = run(ExactDenoiser(process, GAUSSIAN), tableau, gaussian_state(float(first.alpha), float(first.sigma)))
    one = got - gaussian_state(float(last.alpha), float(last.sigma))
    other = run(ExactDenoiser(process, MIXTURE), tableau, first.alpha * mixture_flow[0]) - last.alpha * mixture_flow[1]
    return tuple(float((error / last.alpha).pow(2).mean().sqrt()) for error in (one, other))


def test_the_table_has_every_deterministic_method_with_the_order_it_claims():
    assert {name: method.order for name, method in METHODS.items() if method.order is not None} == NAMED


@each_row
def test_the_order_is_nominal(name, mixture_flow):
    row = TABLE[name]
    steps = decade(row.order)
    gaussian, mixture = zip(*(errors_of(row, UNITS["VP"], N, mixture_flow) for N in steps), strict=True)
    assert slope(steps, gaussian) == pytest.approx(row.order, abs=0.2)
    assert slope(steps, mixture) == pytest.approx(row.order, abs=0.2)


@pytest.mark.parametrize(("name", "other"), SAME.items(), ids=SAME.keys())
def test_the_same_method_under_two_names(name, other):
    times = graded(UNITS["VP"], 9)
    one, two = (TABLE[key].table(UNITS["VP"], times) for key in (name, other))
    assert TABLE[name].order == TABLE[other].order
    assert torch.equal(one.states, two.states)
    assert torch.equal(one.estimates, two.estimates)


@pytest.mark.parametrize("units", ["VE", "straight"])
@each_row
def test_the_order_is_the_same_in_other_units(name, units, mixture_flow):
    if name == "euler":  # its steps are the clock's
        steps = decade(1)
        for errors in zip(*(errors_of(TABLE[name], UNITS[units], N, mixture_flow) for N in steps), strict=True):
            assert slope(steps, errors) == pytest.approx(1, abs=0.2)
        return
    # x_t / alpha does not know the units, so neither do the errors: 12 steps, coefficients of order one.
    assert errors_of(TABLE[name], UNITS[units], 12, mixture_flow) == pytest.approx(
        errors_of(TABLE[name], UNITS["VP"], 12, mixture_flow), rel=1e-8
    )


# From x_t that is pure noise to above data in even steps of sigma = t. The first step has one velocity: order 1 with a
# local error h^2, and 2 with h^3 when it is corrected. On straight and VP paths the velocity changes from the start on.
EVEN_START = {
    "straight 2": 2,
    "straight 3": 2,
    "straight 4": 2,
    "straight 1 corrected": 2,
    "straight 2 corrected": 3,
    "straight 3 corrected": 3,
    "straight 4 corrected": 3,
    "angle 2": 2,
    "angle 3": 2,
    "angle 4": 2,
    "angle 2 corrected": 3,
    "angle 3 corrected": 3,
    "angle 4 corrected": 3,
}


@pytest.mark.parametrize("name", EVEN_START)
def test_the_order_with_an_even_start_at_pure_noise(name):
    process, steps, errors = UNITS["straight"], [126, 400], []
    for N in steps:
        times = 1 - 0.8 * torch.linspace(0, 1, N + 1, dtype=F64)
        got = run(ExactDenoiser(process, GAUSSIAN), TABLE[name].table(process, times), gaussian_state(0.0, 1.0))
        errors.append(float((got - gaussian_state(0.8, 0.2)).pow(2).mean().sqrt()))
    assert slope(steps, errors) == pytest.approx(EVEN_START[name], abs=0.25)


# The last step to data, on grids whose last levels are even in sigma. Polynomials in the log-SNR have no integral up to
# data: they step there at order 1 from sigma ~ h, where x_0-hat is off by h^2. The other three lose nothing.
TO_DATA = {
    "ddim": 1,
    "heun": 2,
    "dpm2": 2,
    "dpm3": 2,
    "dpm++2s": 2,
    "dpm++3s": 2,
    "dpm++2m": 2,
    "dpm++3m": 2,
    "unipc2": 2,
    "unipc3": 2,
    "x_0 4 corrected": 2,
    "eps 3": 2,
    "eps 4 corrected": 2,
    "sigma 4": 4,
    "straight 4": 4,
    "straight 4 corrected": 5,
    "angle 4": 4,
    "angle 3 corrected": 4,
}


@pytest.mark.parametrize("name", TO_DATA)
def test_the_order_with_the_last_step_to_data(name):
    process, steps, errors = UNITS["straight"], [80, 240], []
    for N in steps:
        times = 0.98 * (1 - torch.linspace(0, 1, N + 1, dtype=F64) ** 2)
        got = run(ExactDenoiser(process, GAUSSIAN), TABLE[name].table(process, times), gaussian_state(0.02, 0.98))
        errors.append(float((got - gaussian_state(1.0, 0.0)).pow(2).mean().sqrt()))
    assert slope(steps, errors) == pytest.approx(TO_DATA[name], abs=0.25)


def test_the_order_at_data_of_a_run_from_pure_noise_in_even_times():
    # What ``uniform`` gives on the straight path, both ends included.
    process, steps = UNITS["straight"], [126, 400]
    for table, order in ((ddim, 1), (partial(adams, along="straight", corrector=False), 2), (adams, 3)):
        errors = []
        for N in steps:
            got = run(ExactDenoiser(process, GAUSSIAN), table(process, uniform(N)), gaussian_state(0.0, 1.0))
            errors.append(float((got - gaussian_state(1.0, 0.0)).pow(2).mean().sqrt()))
        assert slope(steps, errors) == pytest.approx(order, abs=0.1)
