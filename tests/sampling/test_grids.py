"""Grids: distinct levels, the right ends, and what is refused."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.core import VE, VP, LinearLogSNR, Process, Tabulated, linear_betas
from sfumato.errors import InputError
from sfumato.sampling import chain, uniform
from sfumato.sampling.grids import adjacent, check

quick = settings(deadline=None, max_examples=200, derandomize=True)


@quick
@given(steps=st.integers(1, 2000), start=st.floats(1e-3, 1))
def test_uniform_times_are_evenly_spaced_from_start_to_exactly_zero(steps, start):
    times = uniform(steps, start)
    assert times.shape == (steps + 1,)
    assert times.dtype == torch.float64
    assert float(times[0]) == start
    assert float(times[-1]) == 0
    check(times)
    assert float((times[:-1] - times[1:] - start / steps).abs().max()) < 1e-15


@quick
@given(data=st.data())
def test_chain_times_are_distinct_levels_as_evenly_as_they_come(data):
    length = data.draw(st.integers(1, 1200))
    steps = data.draw(st.integers(1, length))
    times = chain(steps, length)
    k = (times * length).round().long()
    assert torch.equal(k.double() / length, times)
    assert k.tolist()[0] == length
    assert k.tolist()[-1] == 0
    check(times)
    # Each within half a level of the even spacing, the half itself rounded up.
    for i, level in enumerate(k.tolist()):
        even = Fraction(length * (steps - i), steps)
        assert Fraction(-1, 2) < level - even <= Fraction(1, 2)


@pytest.mark.parametrize("length", [1, 2, 7, 50, 1000])
def test_a_chain_walked_whole_visits_every_level(length):
    assert torch.equal(chain(length, length), torch.arange(length, -1, -1).double() / length)


def test_one_step():
    assert uniform(1).tolist() == [1, 0]
    assert chain(1, 1000).tolist() == [1, 0]


def test_adjacent_levels_are_those_of_the_grid_with_data_at_zero():
    process = Process(VE(), LinearLogSNR(-4.0, 6.0))
    at_t, at_s = adjacent(process, torch.tensor([1.0, 0.3, 0.0], dtype=torch.float64))
    assert at_t.alpha.shape == at_s.sigma.shape == (2,)
    assert at_t.sigma.tolist() == pytest.approx([math.exp(2), math.exp(-1.5)])
    assert at_s.sigma.tolist() == pytest.approx([math.exp(-1.5), 0])
    assert at_s.logsnr.tolist()[1] == math.inf
    # Ending above zero ends at the clock's own level.
    _, last = adjacent(process, torch.tensor([1.0, 1e-9], dtype=torch.float64))
    assert last.logsnr.tolist() == pytest.approx([6.0], abs=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: uniform(0), r"^steps: 0 .*at least 1"),
        (lambda: uniform(5, 0.0), r"^start: 0\.0 .*\(0, 1\]"),
        (lambda: uniform(5, 1.5), r"^start: 1\.5"),
        (lambda: uniform(5, math.nan), r"^start: nan"),
        (lambda: chain(0, 10), r"^steps: 0 on a chain of 10 levels; give 1 to 10"),
        (lambda: chain(11, 10), r"^steps: 11 on a chain of 10"),
        (lambda: check(torch.tensor([1.0])), r"^times: shape \(1,\)"),
        (
            lambda: check(torch.tensor([1.0, 0.5, 0.5])),
            r"^times: entry 2 \(0\.5\) does not come below entry 1 \(0\.5\)",
        ),
        (lambda: check(torch.tensor([0.0, 1.0])), r"^times: entry 1 \(1\) does not come below entry 0 \(0\)"),
        (lambda: check(torch.tensor([1.0, -0.1])), r"^times: entry 1 is -0\.1"),
        (lambda: check(torch.tensor([1.2, 0.1])), r"^times: entry 0 is 1\.2"),
        (lambda: check(torch.tensor([1.0, math.nan])), r"^times: entry 1 is nan"),
    ],
)
def test_bad_grids_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_samplers_refuse_a_bad_grid_of_theirs():
    from sfumato.sampling import ancestral, ddim

    process = Process(VP(), Tabulated(linear_betas(10)))
    for sampler in (ancestral, ddim):
        with pytest.raises(InputError, match=r"^times: entry 1"):
            sampler(process, torch.tensor([0.5, 0.7]))
