"""Units and error bars, by their definitions."""

import math

import pytest
import torch
from scipy import stats

from sfumato.bounds import ContinuousGaussian
from sfumato.core import VP, Cosine, Process
from sfumato.denoisers import ExactDenoiser
from sfumato.likelihood import Estimate, Span, bits_per_dim, estimate
from sfumato.likelihood.bits import degrees_of_freedom, skew_widening, student_widening

F64 = torch.float64


def test_a_nat_is_1_over_ln_2_bits():
    assert bits_per_dim(torch.tensor([math.log(256) * 5], dtype=F64), 5).tolist() == pytest.approx([8.0])


def test_the_two_errors_of_a_mean():
    values, variance = torch.tensor([1.0, 2.0, 6.0], dtype=F64), torch.full((3,), 0.3, dtype=F64)
    found = Estimate.of(values, variance)
    assert found.mean == pytest.approx(3.0)
    assert found.error == pytest.approx(math.sqrt((4 + 1 + 9) / 2 / 3))
    assert found.method == pytest.approx(math.sqrt(0.9) / 3)
    assert str(found) == "3.0000 ± 1.5275"


def test_students_quantile_is_scipys():
    for freedom in (3.0, 4.5, 8.0, 30.0, 1000.0):
        assert student_widening(freedom) == pytest.approx(stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975), rel=0.01)
    assert student_widening(math.inf) == 1


@pytest.mark.parametrize("freedom", [4, 20])
def test_degrees_of_freedom_are_those_of_chi_squares(freedom: int):
    """20,000 samples, each with a variance of ``freedom`` squares: their sum has as many each; 8 sigma of 1.3 %."""
    squares = torch.randn(20_000, freedom, generator=torch.Generator().manual_seed(0), dtype=F64).square()
    assert degrees_of_freedom(squares.mean(1)) == pytest.approx(20_000 * freedom, rel=0.1)


def test_a_skewed_mean_is_wider_by_johnsons_term():
    """(2 z^2 + 1) / 6 standard errors per unit of skewness, whichever its sign: 1.447 of 1.96."""
    assert skew_widening(0.0) == 1
    assert skew_widening(0.4) == skew_widening(-0.4) == pytest.approx(1 + 0.4 * 1.447 / 1.96, rel=1e-3)
    values, variance = torch.arange(40, dtype=F64), torch.full((40,), 0.1, dtype=F64)
    assert Estimate.of(values, variance, 0.4).method == pytest.approx(2 / 40 * skew_widening(0.4))


def test_an_error_that_few_samples_make_is_wider_and_not_trusted():
    values = torch.arange(40, dtype=F64)
    even, single = torch.full((40,), 0.1, dtype=F64), torch.zeros(40, dtype=F64)
    single[3] = 4.0
    whole, rare = Estimate.of(values, even), Estimate.of(values, single)
    assert whole.trusted
    assert whole.method == pytest.approx(2 / 40)
    assert not rare.trusted
    assert rare.method > 1.5 * whole.method
    assert not Estimate.of(values[:1], even[:1]).trusted
    assert Estimate.of(values, torch.zeros(40, dtype=F64)) == Estimate(whole.mean, whole.error, 0.0)


def test_one_sample_has_no_error_of_its_own_and_unknown_stays_unknown():
    found = Estimate.of(torch.tensor([1.0], dtype=F64), torch.tensor([math.nan], dtype=F64))
    assert math.isnan(found.error)
    assert math.isnan(found.method)


def test_a_bound_in_nats_bits_and_terms(targets):
    mixture = targets["Gaussian in 2-D"]
    x = mixture.sample(12, torch.Generator().manual_seed(0))
    found = estimate(ExactDenoiser(Process(VP(), Cosine()), mixture), x, ContinuousGaussian(), Span(0.0))
    torch.testing.assert_close(found.nats, found.prior + found.steps + found.decoder)
    torch.testing.assert_close(found.bits, found.nats / (2 * math.log(2)))
    assert found.estimate.mean == pytest.approx(float(found.bits.mean()))
    assert found.estimate.error == pytest.approx(float(found.bits.std()) / math.sqrt(12))
    freedom = 2 * float(found.variance.sum()) ** 2 / (12 * float(found.variance.var()))
    widening = stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975) * skew_widening(found.skewness)
    plain = math.sqrt(float(found.variance.sum())) / 12 / (2 * math.log(2))
    assert found.estimate.method == pytest.approx(widening * plain, rel=0.01)
    assert sum(term.mean for term in found.terms.values()) == pytest.approx(found.estimate.mean)
    assert list(found.terms) == ["prior", "steps", "decoder"]
    assert all(math.isnan(term.method) for term in found.terms.values())
