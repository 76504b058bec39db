"""An instrument from pairs: against the instrument that made them, leave-one-out against refitting, bad pairs."""

import pytest
import torch

from sfumato.errors import InputError
from sfumato.restoration import Calibration

G = torch.Generator().manual_seed(0)
TRUE, BIAS = torch.randn(3, 5, generator=G).double(), torch.tensor([1.0, -2.0, 0.0]).double()
ROOT = torch.tensor([[0.1, 0.0, 0.0], [0.08, 0.1, 0.0], [0.0, 0.0, 0.3]]).double()


def pairs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = 2 + torch.randn(count, 1, 5, generator=g).double()
    return x, x[:, 0] @ TRUE.T + BIAS + torch.randn(count, 3, generator=g).double() @ ROOT.T


def test_many_pairs_give_the_instrument_and_its_noise():
    found = Calibration.of(*pairs(4000, 1))
    assert torch.allclose(found.matrix, TRUE, atol=0.02)
    assert torch.allclose(found.bias, BIAS, atol=0.06)
    assert torch.allclose(found.covariance, ROOT @ ROOT.T, atol=0.006)


def test_whitened_readings_have_white_noise_of_deviation_1():
    found, (x, y) = Calibration.of(*pairs(300, 2)), pairs(4000, 3)
    off = found.whitened(y) - found.operator(x)
    assert torch.allclose(off.T.cov(), torch.eye(3).double(), atol=0.25)
    assert off.mean(0).abs().max() < 0.2


def test_few_pairs_know_less_of_the_matrix():
    few, many, (x, y) = Calibration.of(*pairs(9, 4)), Calibration.of(*pairs(900, 4)), pairs(2000, 5)
    assert few.covariance.diagonal().sum() > 1.3 * many.covariance.diagonal().sum()
    assert (
        few.whitened(y) - few.operator(x)
    ).std() < 2.5  # without what is not known of the matrix it would be far off


def test_the_errors_are_those_of_refitting_without_each_pair(monkeypatch):
    monkeypatch.setattr("sfumato.restoration.calibration._STRENGTHS", torch.tensor([1e-9]).double())
    monkeypatch.setattr("sfumato.restoration.calibration._SHRINK", 0.0)
    x, y = pairs(12, 6)
    errors = []
    for i in range(12):
        rest = torch.arange(12) != i
        part = Calibration.of(x[rest], y[rest])
        errors.append(y[i] - x[i, 0] @ part.matrix.T - part.bias)
    off = torch.stack(errors)
    assert torch.allclose(Calibration.of(x, y).covariance, off.T @ off / 12, rtol=1e-4)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.randn(9, 5), torch.randn(8, 3), "9 samples and 8 readings"),
        (torch.randn(5, 5), torch.randn(5, 3), "at least 8"),
        (torch.randn(9, 5), torch.full((9, 3), torch.nan), "NaN"),
        (torch.ones(9, 5), torch.randn(9, 3), "all the same"),
    ],
)
def test_bad_pairs_are_refused_in_one_line(x, y, message):
    with pytest.raises(InputError, match=message) as caught:
        Calibration.of(x, y)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="calibrated for 3"):
        Calibration.of(*pairs(20, 0)).whitened(torch.zeros(2, 4))
