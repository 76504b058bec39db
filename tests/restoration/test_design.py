"""Chosen readings: against all sets, against the error of simulated estimates, and what cannot be chosen from."""

from itertools import combinations

import pytest
import torch

from sfumato.errors import InputError
from sfumato.restoration.design import choose, gain, left

G = torch.Generator().manual_seed(0)
ROOT = torch.randn(4, 6, generator=G).double()
COVARIANCE = ROOT.T @ ROOT + 0.01 * torch.eye(6)
ROWS = torch.randn(11, 6, generator=G).double()


@pytest.mark.parametrize("count", [1, 3])
def test_the_chosen_set_is_the_best_of_all(count):
    found = choose(ROWS, COVARIANCE, 0.3, count)
    traces = {s: float(left(ROWS[list(s)], COVARIANCE, 0.3).trace()) for s in combinations(range(11), count)}
    assert sorted(found.chosen) == list(min(traces, key=traces.get))
    assert found.errors[-1] == pytest.approx((min(traces.values()) / 6) ** 0.5)
    assert list(found.errors) == sorted(found.errors, reverse=True)


def test_the_error_is_that_of_the_best_linear_estimate():
    rows = ROWS[[2, 7]]
    g = torch.Generator().manual_seed(1)
    x = torch.randn(100_000, 6, generator=g).double() @ torch.linalg.cholesky(COVARIANCE).T
    y = x @ rows.T + 0.3 * torch.randn(100_000, 2, generator=g).double()
    fit = torch.linalg.lstsq(y, x).solution
    assert float((x - y @ fit).pow(2).sum(1).mean()) == pytest.approx(
        float(left(rows, COVARIANCE, 0.3).trace()), rel=0.02
    )


def test_a_gain_is_what_one_reading_takes_off():
    now = left(ROWS[[0]], COVARIANCE, 0.3)
    taken = now.trace() - left(ROWS[[0, 4]], COVARIANCE, 0.3).trace()
    assert float(gain(ROWS, now, 0.3)[4]) == pytest.approx(float(taken))


@pytest.mark.parametrize(("count", "noise"), [(12, 0.1), (0, 0.1), (2, 0.0)])
def test_what_cannot_be_chosen_is_refused(count, noise):
    with pytest.raises(InputError, match="filters"):
        choose(ROWS, COVARIANCE, noise, count)
