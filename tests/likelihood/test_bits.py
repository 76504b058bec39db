"""Units and error bars, by their definitions."""

import math

import pytest
import torch

from sfumato.bounds import ContinuousGaussian
from sfumato.core import VP, Cosine, Process
from sfumato.denoisers import ExactDenoiser
from sfumato.likelihood import Estimate, Span, bits_per_dim, estimate

F64 = torch.float64


def test_a_nat_is_1_over_ln_2_bits():
    assert bits_per_dim(torch.tensor([math.log(256) * 5], dtype=F64), 5).tolist() == pytest.approx([8.0])


def test_the_two_errors_of_a_mean():
    values, variance = torch.tensor([1.0, 2.0, 6.0], dtype=F64), torch.tensor([0.1, 0.2, 0.6], dtype=F64)
    found = Estimate.of(values, variance)
    assert found.mean == pytest.approx(3.0)
    assert found.error == pytest.approx(math.sqrt((4 + 1 + 9) / 2 / 3))
    assert found.method == pytest.approx(math.sqrt(0.9) / 3)
    assert str(found) == "3.0000 ± 1.5275"


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
    assert found.estimate.method == pytest.approx(math.sqrt(float(found.variance.sum())) / 12 / (2 * math.log(2)))
    assert sum(term.mean for term in found.terms.values()) == pytest.approx(found.estimate.mean)
    assert list(found.terms) == ["prior", "steps", "decoder"]
    assert all(math.isnan(term.method) for term in found.terms.values())
