"""Gaussians around samples: a covariance against a loop, and shares of widths against direct searches."""

import math

import pytest
import torch

from sfumato.denoisers import GaussianMixture
from sfumato.numerics import local_mixtures
from sfumato.numerics.local_mixtures import Bandwidth, covariances, gaussians, stacked

X = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def scatter(i: int, k: int) -> torch.Tensor:
    """The spread of the k nearest neighbours of sample i, one by one."""
    order = sorted((j for j in range(len(X)) if j != i), key=lambda j: float((X[j] - X[i]).norm()))
    return sum((torch.outer(X[j] - X[i], X[j] - X[i]) for j in order[:k]), torch.zeros(3, 3).double())


def ring(count: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    angle = 6.28 * torch.rand(count, 1, generator=g, dtype=torch.float64)
    return torch.cat([angle.cos(), angle.sin(), 0.3 * torch.randn(count, 1, generator=g, dtype=torch.float64)], 1)


def test_a_covariance_is_that_of_the_neighbours_mixed_with_the_mean_one():
    k, c, w = 4, 1.5, 0.6
    found = covariances(X, torch.arange(30), Bandwidth(k, c, w))
    pooled = torch.stack([scatter(i, k) for i in range(30)]).mean(0) / k
    for i in (0, 7, 29):
        expected = w * (scatter(i, k) + c * pooled) / (k + c)
        assert torch.allclose(found[i], expected, atol=2e-6 * float(pooled.trace()))


def test_the_shares_are_those_under_which_samples_left_out_are_likeliest():
    """The densities by another class than the module's, the shares of two bandwidths on a grid."""
    x = ring(150, 3)
    found = stacked(x, torch.Generator().manual_seed(5), [5], [1.0], [0.2, 2.0])
    g = torch.Generator().manual_seed(5)
    order = torch.randperm(150, generator=g)
    noise = local_mixtures.NOISE * float((x - x.mean(0)).square().mean().sqrt())
    logs = []
    for i in range(5):
        held = order[i::5]
        others = torch.cat([order[j::5] for j in range(5) if j != i])
        asked = x[held] + noise * torch.randn(len(held), 3, generator=g, dtype=torch.float64)
        own = []
        for w in (0.2, 2.0):
            spread = covariances(x[others], torch.arange(len(others)), Bandwidth(5, 1.0, w))
            law = GaussianMixture(
                torch.full((len(others),), 1 / len(others)), x[others], spread + noise**2 * torch.eye(3).double()
            )
            own.append(law.log_prob(asked))
        logs.append(torch.stack(own))
    p = torch.cat(logs, 1).exp()
    grid = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    best = float(grid[(grid[:, None] * p[0] + (1 - grid[:, None]) * p[1]).log().mean(1).argmax()])
    assert 0.05 < best < 0.95  # both widths are wanted
    assert found[Bandwidth(5, 1.0, 0.2)] == pytest.approx(best, abs=0.01)
    assert math.isclose(sum(found.values()), 1)


def test_noise_keeps_a_width_for_directions_that_a_measurement_sees():
    """Samples on a plane, to a thousandth: without noise that direction alone would decide."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(300, 3, generator=g, dtype=torch.float64) * torch.tensor([1.0, 1.0, 1e-3])
    x[:, 2] += 1e-3 * torch.randn(300, generator=g, dtype=torch.float64).exp()
    wide = stacked(x, g, [10], [1.0], [0.5])
    assert wide == {Bandwidth(10, 1.0, 0.5): 1.0}
    once = stacked(x, torch.Generator().manual_seed(2), [5, 10], [0.5, 2.0], [0.3, 0.8])
    flat = x * torch.tensor([1.0, 1.0, 1e-3])  # what is far below the noise changes nothing
    again = stacked(flat, torch.Generator().manual_seed(2), [5, 10], [0.5, 2.0], [0.3, 0.8])
    assert once.keys() == again.keys()
    assert all(abs(once[b] - again[b]) < 0.02 for b in once)


def test_few_samples_take_fewer_neighbours():
    assert {b.neighbours for b in stacked(X[:10], torch.Generator().manual_seed(0), [5, 40], [1.0], [0.5])} <= {5, 7}


def test_samples_that_are_all_the_same_still_have_a_density():
    x = torch.ones(12, 3).double()
    shares = stacked(x, torch.Generator().manual_seed(0), [5], [1.0], [0.5])
    assert shares == {Bandwidth(5, 1.0, 0.5): 1.0}
    found = covariances(x, torch.arange(12), Bandwidth(5, 1.0, 0.5))
    assert torch.linalg.cholesky_ex(found).info.eq(0).all()


def test_a_covariance_does_not_depend_on_the_other_centres():
    """One centre with fewer neighbours than numbers would have no density in most directions."""
    x = torch.randn(40, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bandwidth = Bandwidth(3, 2.0, 0.5)
    every = covariances(x, torch.arange(40), bandwidth)
    for own in ([7], [2, 30]):
        assert torch.allclose(covariances(x, torch.tensor(own), bandwidth), every[own], rtol=1e-12)


NARROW, WIDE = Bandwidth(5, 1.0, 0.3), Bandwidth(10, 1.0, 0.8)


def test_every_sample_has_a_gaussian_of_each_width_where_there_is_room():
    g = torch.Generator().manual_seed(0)
    weights, means, spreads = gaussians(X, {NARROW: 0.25, WIDE: 0.75}, 60, g)
    assert torch.equal(means, X.repeat(2, 1))
    assert torch.allclose(weights, torch.tensor([0.75, 0.25]).double().repeat_interleave(30) / 30)
    assert torch.equal(spreads, torch.cat([covariances(X, torch.arange(30), b) for b in (WIDE, NARROW)]))


@pytest.mark.parametrize(
    ("share", "most", "narrow"), [(0.25, 20, 5), (0.25, 50, 20), (0.01, 20, 1), (0.25, 1, 0), (0.9, 40, 30)]
)
def test_with_little_room_each_width_has_its_share_of_it(share: float, most: int, narrow: int):
    """Room for 50 is 20 for a quarter: the other width has no more than 30 samples."""
    g = torch.Generator().manual_seed(0)
    weights, means, _ = gaussians(X, {NARROW: share, WIDE: 1 - share}, most, g)
    assert len(weights) == most
    assert float(weights.sum()) == pytest.approx(1)
    wide = most - narrow
    first, second = (wide, narrow) if share < 0.5 else (narrow, wide)
    assert len(means[:first].unique(dim=0)) == first  # no sample twice for a width
    assert len(means[first:].unique(dim=0)) == second
    assert len(means.unique(dim=0)) == min(most, len(X))  # none has two before all have one
    if narrow:
        found = weights[:first].sum() if share > 0.5 else weights[first:].sum()
        assert float(found) == pytest.approx(share)
