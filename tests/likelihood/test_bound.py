"""Which levels a bound is over, and what is refused."""

import math

import pytest
import torch

from sfumato.bounds import ContinuousGaussian, DiscretisedGaussian
from sfumato.core import (
    VE,
    VP,
    Cosine,
    LinearBeta,
    LinearLogSNR,
    Logistic,
    Prediction,
    Process,
    Straight,
    Tabulated,
    ValueGrid,
    linear_betas,
)
from sfumato.denoisers import Denoiser, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.likelihood import Span, estimate, finest_time, flow_likelihood, walk, walk_times

F64 = torch.float64
CHAIN = Process(VP(), Tabulated(linear_betas(10)))
FLOW = Process(Straight(), Logistic())
GAUSSIAN = GaussianMixture.gaussian(torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64))
X = GAUSSIAN.sample(10, torch.Generator().manual_seed(0))
DECODER = ContinuousGaussian()


# ------------------------------------------------------------------------------------------------ levels


def test_the_finest_level_of_a_chain_is_its_first():
    assert finest_time(CHAIN) == finest_time(CHAIN, ValueGrid(-1.0, 0.1, 21)) == 0.1


def test_a_clock_with_a_finite_end_begins_there():
    for process in (Process(VP(), Cosine()), Process(VE(), LinearLogSNR()), Process(Straight(), Logistic(-9.0, 9.0))):
        assert finest_time(process) == finest_time(process, ValueGrid(0.0, 1.0, 2)) == 0.0


@pytest.mark.parametrize("process", [FLOW, Process(VP(), LinearBeta())], ids=["straight", "VP"])
def test_a_clock_that_begins_at_data_is_entered_where_values_are_told_apart(process):
    level = process.level(finest_time(process))
    assert float(level.sigma / level.alpha) == pytest.approx(0.002, rel=1e-9)
    for step in (2 / 255, 0.125):
        level = process.level(finest_time(process, ValueGrid(-1.0, step, 9)))
        assert float(6 * level.sigma / level.alpha) == pytest.approx(step / 2, rel=1e-9)


def test_a_chains_levels_are_its_own():
    torch.testing.assert_close(walk_times(CHAIN), torch.arange(1, 11, dtype=F64) / 10, rtol=0, atol=0)
    assert (10 * walk_times(CHAIN, 3)).tolist() == [1, 4, 7, 10]
    assert (10 * walk_times(CHAIN, 1)).tolist() == [1, 10]
    for steps in range(1, 10):
        picked = walk_times(CHAIN, steps)
        assert len(picked) == steps + 1
        assert bool((picked.diff() > 0).all())
        assert bool(torch.isin(picked, walk_times(CHAIN)).all())
        assert float((10 * picked - torch.linspace(1, 10, steps + 1, dtype=F64)).abs().max()) <= 0.5


def test_a_clocks_levels_are_of_even_length():
    for process in (Process(VP(), Cosine()), FLOW):
        found = walk_times(process, 4)
        first = finest_time(process)
        torch.testing.assert_close(found, torch.tensor([first + (1 - first) * k / 4 for k in range(5)], dtype=F64))
    grid = ValueGrid(-1.0, 0.125, 17)
    assert float(walk_times(FLOW, 4, grid)[0]) == finest_time(FLOW, grid) > finest_time(FLOW)


@pytest.mark.parametrize(
    ("process", "steps", "said"),
    [
        (FLOW, None, "give a number of steps, or use a Span"),
        (FLOW, 0, "steps: 0 is not allowed"),
        (CHAIN, 0, "steps: 0 is not allowed"),
        (CHAIN, 10, "steps: 10 are too many for a chain of 10 levels; give at most 9"),
        (Process(VP(), Tabulated(torch.tensor([0.5]))), None, "a chain of 1 level has no pair"),
    ],
)
def test_walks_that_are_none(process, steps, said):
    with pytest.raises(InputError, match=said) as error:
        walk_times(process, steps)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------ refusals

ROUTES = {
    "walk": lambda x, times: walk(ExactDenoiser(CHAIN, GAUSSIAN), x, DECODER, times),
    "estimate": lambda x, times: estimate(ExactDenoiser(CHAIN, GAUSSIAN), x, DECODER, times),
    "flow": lambda x, times: flow_likelihood(ExactDenoiser(CHAIN, GAUSSIAN), x),
}


@pytest.mark.parametrize("route", ROUTES)
def test_data_that_is_not_finite_is_named(route):
    bad = X.clone()
    bad[3, 1], bad[7, 0] = math.nan, math.inf
    with pytest.raises(InputError, match=r"data: 2 of 10 samples .* sample 3; remove or repair them") as error:
        ROUTES[route](bad, walk_times(CHAIN))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="data: no samples; give at least one"):
        ROUTES[route](X[:0], walk_times(CHAIN))


@pytest.mark.parametrize("route", ["walk", "estimate"])
@pytest.mark.parametrize(
    "times",
    [[0.5], [0.5, 0.5], [0.6, 0.4], [-0.1, 0.5], [0.1, 1.1], [0.1, 0.3, 0.2], [0.1, math.nan]],
    ids=str,
)
def test_times_that_are_none(route, times):
    with pytest.raises(InputError, match="times: give two or more in rising order, in"):
        ROUTES[route](X, torch.tensor(times, dtype=F64))


@pytest.mark.parametrize("route", ["walk", "estimate"])
def test_a_walk_cannot_begin_at_data_itself(route):
    with pytest.raises(InputError, match="times: t = 0 is data itself; begin where there is some noise"):
        ROUTES[route](X, torch.tensor([0.0, 0.5, 1.0], dtype=F64))
    with pytest.raises(InputError, match="times: t = 0 is data itself"):
        estimate(ExactDenoiser(CHAIN, GAUSSIAN), X, DECODER, Span(0.0))


def test_a_span_must_rise():
    with pytest.raises(InputError, match="times: give two or more in rising order"):
        estimate(ExactDenoiser(CHAIN, GAUSSIAN), X, DECODER, Span(0.5, 0.5))


def test_data_off_the_decoders_grid():
    decoder = DiscretisedGaussian(ValueGrid(-1.0, 0.25, 9))
    for route in (walk, estimate):
        with pytest.raises(InputError, match="numbers are none of the 9 values from -1 to 1"):
            route(ExactDenoiser(CHAIN, GAUSSIAN), X, decoder, walk_times(CHAIN))


@pytest.mark.parametrize("evaluations", [-1, 0, 3])
def test_too_few_evaluations(evaluations):
    with pytest.raises(InputError, match=f"evaluations: {evaluations} are too few .* give 12 or more"):
        estimate(ExactDenoiser(CHAIN, GAUSSIAN), X, DECODER, walk_times(CHAIN), evaluations=evaluations)


@pytest.mark.parametrize("samples", [1, 2, 10])
def test_twelve_evaluations_are_enough_as_the_message_says(samples):
    found = estimate(ExactDenoiser(CHAIN, GAUSSIAN), X[:samples], DECODER, walk_times(CHAIN), evaluations=12)
    assert found.evaluations <= 12


def test_a_term_that_is_not_finite_is_named_with_its_time():
    class Broken(Denoiser):
        process = CHAIN

        def forward(self, x_t, t, cond=None) -> Prediction:
            bad = torch.where(t.expand(len(x_t)) > 0.65, math.nan, 1.0)[:, None]
            return Prediction(x_t * bad, x_t * bad)

    with pytest.raises(FloatingPointError, match=r"likelihood: the term at t = 0\.7 is not finite"):
        walk(Broken(), X[:3], DECODER, walk_times(CHAIN))
    with pytest.raises(FloatingPointError, match=r"likelihood: the term at t = (0\.[7-9]|1) is not finite"):
        estimate(Broken(), X, DECODER, walk_times(CHAIN))
