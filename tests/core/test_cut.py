"""A cut-out part of a schedule: where it begins and ends, that it keeps the pace, and what it refuses."""

import math

import pytest
import torch

from sfumato.core import (
    VP,
    Chain,
    Cosine,
    Cut,
    LinearBeta,
    LinearLogSNR,
    Logistic,
    Process,
    Schedule,
    SubVPBeta,
    Tabulated,
    geometric,
    linear_betas,
)
from sfumato.errors import InputError

CHAIN = Tabulated(linear_betas(40, 1e-3, 0.2))
WHOLE: dict[str, tuple[Schedule, float, float]] = {
    "line": (LinearLogSNR(-8.0, 10.0), -3.0, 6.0),
    "geometric": (geometric(0.01, 50.0), -4.0, 5.0),
    "linear-beta": (LinearBeta(), -7.0, 8.0),
    "subvp-beta": (SubVPBeta(), -7.0, 8.0),
    "cosine": (Cosine(), -10.0, 4.0),
    "logistic": (Logistic(), -12.0, 12.0),
    "chain": (CHAIN, -2.0, 5.0),
}
each = pytest.mark.parametrize(("whole", "low", "high"), WHOLE.values(), ids=WHOLE.keys())


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@each
def test_it_goes_from_end_to_end(whole, low, high):
    cut = Cut(whole, low, high)
    assert cut.logsnr(tensor(0.0, 1.0)).tolist() == pytest.approx([high, low], rel=1e-11)
    assert cut.time(tensor(high, low)).tolist() == pytest.approx([0.0, 1.0], abs=1e-12)


@each
def test_it_keeps_the_pace(whole, low, high):
    # Where log-SNRs are passed after a share of the time, they were passed after as large a share of that part of it.
    cut = Cut(whole, low, high)
    logsnr = torch.linspace(high - 0.1, low + 0.1, 9, dtype=torch.float64)
    start, end = whole.time(tensor(high, low)).tolist()
    torch.testing.assert_close(cut.time(logsnr), (whole.time(logsnr) - start) / (end - start), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(cut.logsnr(cut.time(logsnr)), logsnr, rtol=1e-9, atol=1e-9)
    rates = [Process(VP(), schedule).rate(schedule.time(logsnr)) for schedule in (cut, whole)]
    torch.testing.assert_close(rates[0], (end - start) * rates[1], rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("whole", "low", "high"),
    [
        (Logistic(), -math.inf, math.inf),
        (Logistic(), -5.0, math.inf),
        (Logistic(), -math.inf, 5.0),
        (Cosine(-math.inf, math.inf), -6.0, math.inf),
        (LinearBeta(), -5.0, math.inf),
        (SubVPBeta(), -5.0, math.inf),
        (CHAIN, -2.0, math.inf),
        (CHAIN, float(CHAIN.logsnr(torch.ones(()).double())), float(CHAIN.logsnr(tensor(1 / 40)))),
        (LinearLogSNR(-8.0, 10.0), -8.0, 10.0),
        (LinearLogSNR(-8.1, 10.3), -8.1, 10.3),  # no numbers of float32
        (LinearLogSNR(-8.0, 10.0), -8.0 - 1e-12, 10.0 + 1e-12),  # ends that were computed, not copied
    ],
)
def test_its_ends_may_be_the_schedules_own_infinite_or_not(whole, low, high):
    cut = Cut(whole, low, high)
    assert cut.logsnr(tensor(0.0, 1.0)).tolist() == pytest.approx([high, low], rel=1e-9)
    inside = cut.logsnr(torch.linspace(0.01, 0.99, 50, dtype=torch.float64))
    assert inside.isfinite().all()
    assert (inside.diff() < 0).all()
    Process(VP(), cut)


@pytest.mark.parametrize("whole", [Logistic(), Cosine(-math.inf, math.inf)], ids=["logistic", "cosine"])
def test_all_of_a_schedule_is_the_schedule(whole):
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    torch.testing.assert_close(Cut(whole, -math.inf, math.inf).logsnr(t), whole.logsnr(t), rtol=1e-14, atol=0)


def test_a_cut_of_a_cut_is_the_cut():
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    twice, once = Cut(Cut(LinearBeta(), -8.0, 9.0), -3.0, 4.0), Cut(LinearBeta(), -3.0, 4.0)
    torch.testing.assert_close(twice.logsnr(t), once.logsnr(t), rtol=0, atol=1e-11)


def test_a_part_of_a_chain_has_no_levels_of_its_own():
    assert not isinstance(Cut(CHAIN, -2.0, 5.0), Chain)


def test_it_says_what_mends_a_gap_at_its_end():
    warning = Process(VP(), Cut(LinearBeta(), 0.0, 8.0)).check_prior().warning
    assert warning is not None
    assert warning.endswith("lower logsnr_min")


@pytest.mark.parametrize(
    ("whole", "low", "high", "names"),
    [
        (LinearLogSNR(-8.0, 10.0), 3.0, 3.0, ("logsnr_min 3.0", "logsnr_max 3.0", "need")),
        (LinearLogSNR(-8.0, 10.0), 5.0, -5.0, ("logsnr_min 5.0", "need")),
        (LinearLogSNR(-8.0, 10.0), math.nan, 5.0, ("logsnr_min nan",)),
        (LinearLogSNR(-8.0, 10.0), -8.1, 5.0, ("logsnr_min -8.1", "from -8 to 10")),
        (LinearLogSNR(-8.0, 10.0), -2.0, 10.1, ("logsnr_max 10.1", "from -8 to 10")),
        (LinearLogSNR(-8.0, 10.0), 11.0, 12.0, ("logsnr_min 11", "outside")),
        (CHAIN, -9.0, 5.0, ("logsnr_min -9", "outside", "to inf")),
        (LinearBeta(), -math.inf, 5.0, ("logsnr_min -inf", "outside")),
        (geometric(0.01, 50.0), -2.0, math.inf, ("logsnr_max inf", "outside")),
    ],
)
def test_ends_that_cannot_be_are_refused(whole, low, high, names):
    with pytest.raises(InputError) as caught:
        Cut(whole, low, high)
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in names)
