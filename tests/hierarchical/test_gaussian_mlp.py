import math

import pytest
import torch

from sfumato.errors import InputError
from sfumato.hierarchical import GaussianMLP, LearnedPrior, StandardPrior
from sfumato.hierarchical.gaussian_mlp import bounded, unbounded

from .conftest import data, shaken


def test_a_fresh_one_passes_its_input_on_with_a_variance_of_about_one():
    x = data(6, 4)
    gaussian = GaussianMLP(4, 4, hidden=8, depth=2).double()(x)
    assert torch.equal(gaussian.mean, x)
    assert gaussian.variance.log().abs().max() < 0.11
    narrow = GaussianMLP(4, 2, hidden=8, depth=2).double()(torch.eye(4, dtype=torch.float64))
    # Orthogonal rows: unit variance in, unit variance out. The map was made in float32.
    torch.testing.assert_close(narrow.mean.T @ narrow.mean, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-6)


def test_log_variances_are_bounded_and_the_bound_inverts():
    raw = torch.tensor([-1e6, -30.0, -3.0, 0.0, 1e6], dtype=torch.float64)
    values = bounded(raw)
    assert values.min() >= -12
    assert values.max() <= 6
    assert float(values[2]) == -3
    for variance in (1e-4, 0.3, 1.0, 50.0):
        assert bounded(torch.tensor(unbounded(variance), dtype=torch.float64)).exp().item() == pytest.approx(variance)


def test_it_answers_in_the_type_of_its_input_and_each_sample_alone():
    torch.manual_seed(0)
    mlp = shaken(GaussianMLP(3, 2, hidden=8, depth=1))
    x = data(5, 3)
    together = mlp(x)
    assert together.mean.dtype == together.variance.dtype == torch.float64
    # float32 inside: a matrix product may sum in another order for another batch.
    torch.testing.assert_close(mlp(x[2:3]).mean[0], together.mean[2], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mlp(x[2:3]).variance[0], together.variance[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("arguments", "message"), [((3, 2, 7, 1), "hidden=7"), ((3, 2, 8, 0), "depth=0")])
def test_sizes_that_make_no_network_are_refused(arguments, message):
    with pytest.raises(InputError, match=f"^{message}"):
        GaussianMLP(*arguments)


def test_priors_are_standard_normal_when_fresh():
    x = data(5, 3)
    expected = -0.5 * (x.square() + math.log(2 * math.pi)).sum(1)
    torch.testing.assert_close(StandardPrior()(x).log_prob(x), expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(LearnedPrior(3)(x).log_prob(x), expected, rtol=1e-6, atol=0)  # float32 parameters
