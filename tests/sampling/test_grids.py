"""Grids: distinct levels, the right ends, and what is refused."""

import inspect
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.core import (
    VE,
    VP,
    Cosine,
    LinearBeta,
    LinearLogSNR,
    Logistic,
    Process,
    Straight,
    Tabulated,
    geometric,
    linear_betas,
)
from sfumato.errors import InputError
from sfumato.sampling import chain, uniform
from sfumato.sampling.grids import (
    DATA,
    NOISE,
    adjacent,
    angle,
    at_logsnr,
    check,
    ends,
    finest_logsnr,
    quadratic,
    rho,
    uniform_logsnr,
)

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
            r"^times: entry 2 \(0\.5\) is not below entry 1 \(0\.5\)",
        ),
        (lambda: check(torch.tensor([0.0, 1.0])), r"^times: entry 1 \(1\) is not below entry 0 \(0\)"),
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


@quick
@given(steps=st.integers(1, 300), start=st.floats(1e-3, 1))
def test_quadratic_times_are_squares_of_even_ones(steps, start):
    times = quadratic(steps, start)
    assert times.shape == (steps + 1,)
    assert float(times[0]) == start
    assert float(times[-1]) == 0
    check(times)
    for k in {0, steps // 3, steps}:
        assert float(times[k]) == pytest.approx(start * ((steps - k) / steps) ** 2, rel=1e-14, abs=0)


@quick
@given(data=st.data())
def test_leading_levels_start_low_and_end_at_the_first(data):
    length = data.draw(st.integers(1, 1200))
    steps = data.draw(st.integers(1, length))
    times = chain(steps, length, "leading")
    k = (times * length).round().long().tolist()
    # Song, Meng & Ermon 2021, appendix D.2: a linear tau_i = floor(c i), shifted to levels that count from 1.
    assert k == [1 + (length // steps) * (steps - 1 - i) for i in range(steps)] + [0]
    check(times)


@quick
@given(data=st.data())
def test_linspace_levels_are_as_even_as_they_come_between_both_ends(data):
    length = data.draw(st.integers(1, 1200))
    steps = data.draw(st.integers(1, length))
    times = chain(steps, length, "linspace")
    k = (times * length).round().long().tolist()
    assert k[0] == length
    assert k[-1] == 0
    check(times)
    if steps > 1:
        assert k[-2] == 1
        for i, level in enumerate(k[:-1]):
            even = 1 + Fraction((length - 1) * (steps - 1 - i), steps - 1)
            assert Fraction(-1, 2) < level - even <= Fraction(1, 2)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("length", [1, 2, 7, 50, 1000])
def test_every_spacing_visits_a_whole_chain(length, spacing):
    assert torch.equal(chain(length, length, spacing), torch.arange(length, -1, -1).double() / length)


PROCESSES = {
    "Cosine": Process(VP(), Cosine()),
    "LinearBeta": Process(VP(), LinearBeta()),
    "chain": Process(VP(), Tabulated(linear_betas(1000))),
    "geometric": Process(VE(), geometric(0.01, 80.0)),
    "LinearLogSNR": Process(Straight(), LinearLogSNR()),
    "Logistic": Process(Straight(), Logistic()),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
IN_LOGSNR = {"uniform_logsnr": uniform_logsnr, "rho": rho, "angle": angle}
each_grid = pytest.mark.parametrize("grid", IN_LOGSNR.values(), ids=IN_LOGSNR.keys())


def expected_ends(process: Process) -> tuple[float, float]:
    """Written out a process: its own ends where it has them, NOISE and DATA where not, a chain's first level."""
    first = -math.log(math.expm1(-math.log1p(-1e-4)))  # alpha-bar_1 = 1 - 1e-4
    return {
        "Cosine": (-15, DATA),
        "LinearBeta": (-math.log(math.expm1(10.05)), DATA),
        "chain": (float(process.level(1.0).logsnr), first),
        "geometric": (-2 * math.log(80), -2 * math.log(0.01)),
        "LinearLogSNR": (-5, DATA),
        "Logistic": (NOISE, DATA),
    }[next(name for name, other in PROCESSES.items() if other is process)]


@each_process
def test_ends_are_finite_for_every_process(process):
    assert ends(process) == pytest.approx(expected_ends(process), rel=1e-9)
    assert ends(process, -3.0, 2.0) == (-3.0, 2.0)


def test_what_noise_and_data_are_called():
    assert math.exp(-DATA / 2) == pytest.approx(0.002)
    assert math.exp(-NOISE / 2) == pytest.approx(1096.6, rel=1e-4)
    assert finest_logsnr(PROCESSES["Logistic"]) == math.inf
    assert finest_logsnr(PROCESSES["LinearBeta"]) == math.inf
    assert finest_logsnr(PROCESSES["Cosine"]) == pytest.approx(15)


@each_process
@each_grid
@pytest.mark.parametrize("steps", [1, 2, 3, 18, 200])
def test_grids_in_the_log_snr_go_from_end_to_end_and_then_to_data(process, grid, steps):
    times = grid(process, steps)
    check(times)
    assert times.shape == (steps + 1,)
    assert times.dtype == torch.float64
    assert float(times[-1]) == 0
    logsnr = process.level(times[:-1]).logsnr
    noise, data = expected_ends(process)
    assert float(logsnr[0]) == pytest.approx(noise, abs=1e-6)
    assert float(logsnr[-1]) == pytest.approx(data if steps > 1 else noise, abs=1e-6)
    assert logsnr.isfinite().all()


@each_process
@pytest.mark.parametrize("steps", [2, 7, 40])
def test_grids_in_the_log_snr_by_their_definitions(process, steps):
    noise, data = -4.0, 6.0
    share = [i / (steps - 1) for i in range(steps)]

    def ratios(grid, **settings):
        return process.level(grid(process, steps, noise=noise, data=data, **settings)[:-1]).ratio.tolist()

    assert ratios(uniform_logsnr) == pytest.approx([math.exp(2 - 5 * s) for s in share], rel=1e-9)
    # Karras et al. 2022, eq. 5
    top, bottom = math.exp(2.0), math.exp(-3.0)
    for power in (1.0, 3.0, 7.0):
        edm = [(top ** (1 / power) + s * (bottom ** (1 / power) - top ** (1 / power))) ** power for s in share]
        assert ratios(rho, rho=power) == pytest.approx(edm, rel=1e-9)
        a, b = math.atan(top) ** (1 / power), math.atan(bottom) ** (1 / power)
        angles = [math.tan((a + s * (b - a)) ** power) for s in share]
        assert ratios(angle, power=power) == pytest.approx(angles, rel=1e-9)


def test_edms_own_grid():
    # Karras et al. 2022, table 1, sigma from 80 to 0.002 with rho = 7, N = 18.
    process = Process(VE(), geometric(0.002, 80.0))
    sigma = process.grid(rho(process, 18)).sigma
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)] + [0]
    assert sigma.tolist() == pytest.approx(expected, rel=1e-9)


@quick
@given(data=st.data())
def test_levels_are_the_ones_asked_for_and_then_data(data):
    process = data.draw(st.sampled_from(list(PROCESSES.values())))
    noise, finest_level = expected_ends(process)
    shares = sorted(data.draw(st.sets(st.integers(0, 1000), min_size=1, max_size=30)))
    logsnr = torch.tensor([noise + share / 1000 * (finest_level - noise) for share in shares], dtype=torch.float64)
    times = at_logsnr(process, logsnr)
    check(times)
    assert len(times) == len(logsnr) + 1
    assert float(times[-1]) == 0
    torch.testing.assert_close(process.level(times[:-1]).logsnr, logsnr, rtol=0, atol=1e-6)


def test_infinite_ends_may_be_asked_for():
    # Pure noise is a level of the straight path; one that is data is not evaluated but stands in just above it.
    times = at_logsnr(PROCESSES["Logistic"], torch.tensor([-math.inf, 0.0], dtype=torch.float64))
    assert times.tolist() == [1.0, 0.5, 0.0]
    check(at_logsnr(PROCESSES["LinearBeta"], torch.tensor([-3.0, math.inf], dtype=torch.float64)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: at_logsnr(p, torch.tensor([1.0, 0.0])), r"^logsnr: 0 comes after 1; .*must rise$"),
        (lambda p: at_logsnr(p, torch.tensor([-2.0, 1.0, 1.0])), r"^logsnr: 1 comes after 1"),
        (lambda p: at_logsnr(p, torch.tensor([-2.0, math.nan])), r"^logsnr: nan comes after -2"),
        (lambda p: at_logsnr(p, torch.tensor([math.nan])), r"^logsnr: nan is outside"),
        (lambda p: at_logsnr(p, torch.tensor([-15.1, 0.0])), r"^logsnr: -15\.1 is outside .* -15 .*to 15 "),
        (lambda p: at_logsnr(p, torch.tensor([0.0, 15.1])), r"^logsnr: 15\.1 is outside"),
        (lambda p: at_logsnr(p, torch.zeros(0)), r"^logsnr: none"),
        (lambda p: rho(p, 5, noise=-20.0), r"^logsnr: -20 is outside"),
        (lambda p: uniform_logsnr(p, 5, data=15.5), r"^logsnr: 15\.5 is outside"),
        (lambda p: angle(p, 5, noise=2.0, data=2.0), r"^noise 2, data 2: .*below data"),
        (lambda p: rho(p, 5, noise=3.0, data=2.0), r"^noise 3, data 2"),
        (lambda p: rho(p, 5, noise=math.nan), r"^noise nan"),
        (lambda p: rho(p, 5, 0.0), r"^rho: 0\.0 .*above 0"),
        (lambda p: rho(p, 5, -7.0), r"^rho: -7\.0"),
        (lambda p: rho(p, 5, math.inf), r"^rho: inf"),
        (lambda p: angle(p, 5, 0.0), r"^power: 0\.0 .*above 0"),
        (lambda p: angle(p, 5, math.nan), r"^power: nan"),
        (lambda p: rho(p, 0), r"^steps: 0"),
        (lambda p: angle(p, 0), r"^steps: 0"),
        (lambda p: uniform_logsnr(p, -1), r"^steps: -1"),
        (lambda p: quadratic(0), r"^steps: 0"),
        (lambda p: quadratic(3, 2.0), r"^start: 2\.0"),
        (lambda p: chain(0, 10, "leading"), r"^steps: 0"),
        (lambda p: chain(11, 10, "linspace"), r"^steps: 11"),
        (lambda p: inspect.unwrap(chain)(3, 10, "even"), r"^spacing: 'even' .*trailing, leading or linspace"),
    ],
)
def test_bad_levels_are_refused_in_one_line(make, message):
    with pytest.raises(InputError, match=message) as raised:
        make(PROCESSES["Cosine"])
    assert "\n" not in str(raised.value)
