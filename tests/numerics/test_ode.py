"""Dormand-Prince 5(4) to a tolerance, against closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from sfumato.numerics.ode import integrate

# torchode's own: scripted classes.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

F64 = torch.float64
ROTATION = torch.tensor([[-0.3, 2.0], [-2.0, -0.3]], dtype=F64)
Y = torch.tensor([[1.0, 0.0], [-0.5, 2.0], [0.01, 0.02]], dtype=F64)


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def spiral(t: Tensor, y: Tensor) -> Tensor:
    return y @ ROTATION.T


def flow(y: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """exp((end - start) A) y of each sample."""
    return torch.einsum("bij,bj->bi", torch.linalg.matrix_exp((end - start)[:, None, None] * ROTATION), y)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_a_linear_equation_up_and_down_between_times_of_each_samples_own(tolerance):
    start, end = times(0.0, 3.0, -1.0), times(4.0, 0.5, -1.5)
    got = integrate(spiral, Y, start, end, tolerance)
    # Each step errs by at most tolerance (1 + |y|); fewer than 100 steps, and what is made grows by e^(0.3 * 2.5).
    assert float((got - flow(Y, start, end)).abs().max()) < 100 * tolerance


def test_the_rate_sees_each_samples_own_time():
    """dy/dt = cos(t) y: y exp(sin(end) - sin(start))."""
    start, end = times(0.0, 2.0, 1.0), times(1.0, -3.0, 6.0)
    got = integrate(lambda t, y: torch.cos(t)[:, None] * y, Y, start, end, 1e-9)
    want = Y * torch.exp(end.sin() - start.sin())[:, None]
    torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-8)


def test_the_error_falls_with_the_tolerance_as_a_fifth_order_methods_does():
    start, end = times(0, 0, 0), times(6.0, 6.0, 6.0)
    errors, counts = [], []
    for tolerance in (1e-4, 1e-6, 1e-8, 1e-10):
        calls = 0

        def counted(t: Tensor, y: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return spiral(t, y)

        got = integrate(counted, Y, start, end, tolerance)
        errors.append(float((got - flow(Y, start, end)).abs().max()))
        counts.append(calls)
    # A hundredth of the tolerance is 100^(1/5) = 2.5 times the evaluations, and nearly a hundredth of the error.
    for coarse, fine in itertools.pairwise(errors):
        assert 20 < coarse / fine < 500
    for coarse, fine in itertools.pairwise(counts):
        assert 1.8 < fine / coarse < 3.2


def test_a_sample_depends_on_itself_alone():
    start, end = times(0.0, 0.0, 0.0), times(5.0, 5.0, 5.0)
    stiff = torch.tensor([1.0, 3.0, 0.2], dtype=F64)
    both = torch.cat((Y, stiff[:, None]), dim=1)

    def rate(t: Tensor, y: Tensor) -> Tensor:
        """A spiral of its own speed, carried in the third number."""
        return torch.cat((y[:, 2:] * (y[:, :2] @ ROTATION.T), torch.zeros_like(y[:, 2:])), dim=1)

    together = integrate(rate, both, start, end, 1e-5)
    for i in range(3):
        alone = integrate(rate, both[i : i + 1], start[:1], end[:1], 1e-5)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-14)


def test_no_more_evaluations_than_scipys_method_of_the_same_order_and_error():
    """Van der Pol's oscillator, whose steps must follow it; scipy's RK45 is the same pair of formulas."""

    def rate(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.stack((y[:, 1], 2 * (1 - y[:, 0] ** 2) * y[:, 1] - y[:, 0]), dim=1)

    def same(t: float, y: np.ndarray) -> list[float]:
        return [y[1], 2 * (1 - y[0] ** 2) * y[1] - y[0]]

    calls = 0
    got = integrate(rate, times(2.0, 0.0)[None], times(0.0), times(8.0), 1e-6)[0].numpy()
    truth = solve_ivp(same, (0, 8), [2.0, 0.0], rtol=1e-12, atol=1e-12, method="DOP853").y[:, -1]
    peer = solve_ivp(same, (0, 8), [2.0, 0.0], rtol=1e-6, atol=1e-6, method="RK45")
    # Which of the two happens to err less at one point says little: a factor of five, and a tenth more evaluations.
    assert np.abs(got - truth).max() < 5 * np.abs(peer.y[:, -1] - truth).max()
    assert calls <= 1.1 * peer.nfev


def test_steps_that_shrink_to_nothing_are_refused(monkeypatch):
    """y' = y^2 from 1 is 1 / (1 - t), and there is nothing at t = 2, however many steps are allowed."""
    monkeypatch.setattr("sfumato.numerics.ode.MAX_STEPS", 1500)
    with pytest.raises(FloatingPointError, match=r"adaptive: tolerance 1e-06 was not reached in 1,500 steps; give"):
        integrate(lambda t, y: y**2, torch.ones(1, 1, dtype=F64), times(0.0), times(2.0), 1e-6)


def test_a_time_and_back_is_where_it_began():
    out = integrate(spiral, Y, times(0, 0, 0), times(3, 3, 3), 1e-10)
    back = integrate(spiral, out, times(3, 3, 3), times(0, 0, 0), 1e-10)
    torch.testing.assert_close(back, Y, rtol=0, atol=math.exp(0.9) * 1e-8)
