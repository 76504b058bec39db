"""The posterior of a mixture in closed form: against a sum over a fine grid, and its own draws."""

import pytest
import torch

from sfumato.denoisers import GaussianMixture
from sfumato.restoration import Matrix, Measurement, closed_forms
from sfumato.restoration.closed_form import Gains

G = torch.Generator().manual_seed(0)
ROOTS = torch.randn(3, 2, 2, generator=G, dtype=torch.float64)
PRIOR = GaussianMixture(
    torch.tensor([0.2, 0.5, 0.3]), 2 * torch.randn(3, 2, generator=G).double(), ROOTS @ ROOTS.mT + 0.05 * torch.eye(2)
)
MATRIX = torch.tensor([[1.0, 0.5], [2.0, 1.0], [0.3, -0.4]]).double()  # the third reading is of another direction


def test_mean_deviation_and_evidence_are_those_of_a_sum_over_a_grid():
    noise = torch.tensor([0.5, 0.8, 0.6]).double()
    y = torch.tensor([[1.2, 0.7, -0.3]]).double()
    g = torch.Generator().manual_seed(1)
    (found,) = closed_forms(PRIOR, Measurement(Matrix(MATRIX, (2,)), y, noise), 20_000, [g])
    side = torch.linspace(-14, 14, 1401, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    gap = (y - grid @ MATRIX.T) / noise
    likelihood = -0.5 * gap.pow(2).sum(1) - noise.log().sum() - 1.5 * torch.log(torch.tensor(2 * torch.pi))
    logs = PRIOR.log_prob(grid) + likelihood
    weights = logs.softmax(0)
    mean = weights @ grid
    std = (weights @ (grid - mean) ** 2).sqrt()
    area = float(side[1] - side[0]) ** 2
    assert torch.allclose(found.mean, mean, atol=1e-5)
    assert torch.allclose(found.std, std, atol=1e-5)
    assert abs(found.log_evidence - float(logs.logsumexp(0)) - torch.log(torch.tensor(area)).item()) < 1e-5
    assert ((found.draws.mean(0) - mean).abs() < 4 * std / 20_000**0.5).all()
    assert ((found.draws.std(0) / std - 1).abs() < 0.03).all()


@pytest.mark.parametrize(
    ("noise", "factored"), [(torch.tensor([0.5, 0.8, 0.6]), 1), (torch.tensor([0.5, 0.5, 0.8]), 2)]
)
def test_measurements_share_factors_where_their_noise_is_equal(noise, factored, monkeypatch):
    """The noise of each reading, and of each measurement."""
    made = []

    class Counted(Gains):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    noise = noise if factored == 1 else noise[:, None].expand(3, 3)
    y = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    measured = Measurement(Matrix(MATRIX, (2,)), y, noise)
    monkeypatch.setattr("sfumato.restoration.closed_form.Gains", Counted)
    together = list(closed_forms(PRIOR, measured, 40, [torch.Generator().manual_seed(i) for i in range(3)]))
    assert len(made) == factored
    for i, found in enumerate(together):
        (alone,) = closed_forms(PRIOR, measured.row(i), 40, [torch.Generator().manual_seed(i)])
        for name in ("draws", "mean", "std"):
            assert torch.allclose(getattr(found, name), getattr(alone, name), rtol=0, atol=1e-12)
        assert found.log_evidence == pytest.approx(alone.log_evidence, abs=1e-12)
