"""One Gaussian per sample: its covariance against a loop, and the widths that likelihood chooses."""

import torch

from sfumato.denoisers import GaussianMixture
from sfumato.numerics.local_mixtures import Bandwidth, covariances, likeliest

X = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def scatter(i: int, k: int) -> torch.Tensor:
    """The spread of the k nearest neighbours of sample i, one by one."""
    order = sorted((j for j in range(len(X)) if j != i), key=lambda j: float((X[j] - X[i]).norm()))
    return sum((torch.outer(X[j] - X[i], X[j] - X[i]) for j in order[:k]), torch.zeros(3, 3).double())


def test_a_covariance_is_that_of_the_neighbours_mixed_with_the_mean_one():
    k, c, w = 4, 1.5, 0.6
    found = covariances(X, torch.arange(30), Bandwidth(k, c, w))
    pooled = torch.stack([scatter(i, k) for i in range(30)]).mean(0) / k
    floor = 1e-4 * pooled.trace() / 3 * torch.eye(3).double()
    for i in (0, 7, 29):
        expected = w * ((scatter(i, k) + c * pooled) / (k + c) + floor)
        assert torch.allclose(found[i], expected, atol=1e-9)


def test_the_chosen_widths_are_the_likeliest_of_those_that_are_tried():
    g = torch.Generator().manual_seed(3)
    angle = 6.28 * torch.rand(200, 1, generator=g, dtype=torch.float64)
    x = torch.cat([angle.cos(), angle.sin(), 0.01 * torch.randn(200, 1, generator=g, dtype=torch.float64)], 1)
    chosen = likeliest(x, torch.Generator().manual_seed(5))
    order = torch.randperm(200, generator=torch.Generator().manual_seed(5))
    asked, fitted = x[order[:40]], x[order[40:]]

    def score(bandwidth: Bandwidth) -> float:
        spread = covariances(fitted, torch.arange(160), bandwidth)
        return float(GaussianMixture(torch.full((160,), 1 / 160), fitted, spread).log_prob(asked).mean())

    tried = {
        Bandwidth(k, c, w): score(Bandwidth(k, c, w))
        for k in (5, 10, 20, 40)
        for c in (0.5, 1.0, 2.0)
        for w in (0.3, 0.5, 0.8)
    }
    assert chosen == max(tried, key=lambda bandwidth: tried[bandwidth])
    assert likeliest(x, torch.Generator().manual_seed(5), 7, 3.0, 0.9) == Bandwidth(7, 3.0, 0.9)


def test_samples_that_are_all_the_same_still_have_a_density():
    found = covariances(torch.ones(12, 3).double(), torch.arange(12), Bandwidth(5, 1.0, 0.5))
    assert torch.linalg.cholesky_ex(found).info.eq(0).all()
