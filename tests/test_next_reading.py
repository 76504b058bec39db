"""The most useful reading, against the error after it was really taken."""

import pytest
import torch

from sfumato import Model
from sfumato.core import VP, Cosine, Process
from sfumato.data import LAYOUTS, Affine, DataSpec
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.next_reading import next_reading
from sfumato.restoration.design import left

ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.2, 0.0], [0.0, 0.0, 0.7]]).double()
COVARIANCE = ROOT @ ROOT.T
SPEC = DataSpec(LAYOUTS["vector"], (3,), "float32", Affine((0.0,), (1.0,)), (), 1.0, 8.0, (), (), 100, "0" * 64, "g")
MODEL = Model(
    ExactDenoiser(Process(VP(), Cosine()), GaussianMixture.gaussian(torch.zeros(3).double(), COVARIANCE)), SPEC
)
QUICK = {"draws": 256, "particles": 256, "steps": 8}


def test_errors_are_those_of_the_closed_form():
    unit = torch.eye(3).double()
    for measured in ([torch.nan] * 3, [0.5, torch.nan, torch.nan]):
        found = next_reading(MODEL, torch.tensor(measured), 0.1, **QUICK)
        known = [i for i in range(3) if measured[i] == measured[i]]
        now = left(unit[known], COVARIANCE, 0.1) if known else COVARIANCE
        assert found.error == pytest.approx(float((now.trace() / 3).sqrt()), rel=0.1)
        for i in set(range(3)) - set(known):
            after = float((left(unit[[*known, i]], COVARIANCE, 0.1).trace() / 3).sqrt())
            assert float(found.errors[i]) == pytest.approx(after, rel=0.12)
        assert sorted([*found.order, *known]) == [0, 1, 2]
    assert found.order == (2, 1)  # the first value tells the second already
    assert found.errors[0].isnan()


def test_candidates_can_be_those_of_an_operator():
    rows = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    found = next_reading(MODEL, torch.tensor([torch.nan, torch.nan]), 0.1, rows, **QUICK)
    assert found.order == (1, 0)


@pytest.mark.parametrize(
    ("measured", "message"), [([torch.nan], "3 candidates"), ([1.0, 2.0, 3.0], "every reading is taken")]
)
def test_bad_readings_are_refused(measured, message):
    with pytest.raises(InputError, match=message):
        next_reading(MODEL, torch.tensor(measured), 0.1)
