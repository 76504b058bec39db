"""Mixtures of rows with gaps, against the formulas of a Gaussian row by row."""

import numpy as np
import pytest
import torch

from sfumato.numerics.incomplete import IncompleteMixture, fit


def mixture() -> IncompleteMixture:
    generator = np.random.default_rng(0)
    roots = generator.normal(size=(2, 3, 3))
    covariances = torch.from_numpy(roots @ roots.transpose(0, 2, 1) + 0.3 * np.eye(3))
    return IncompleteMixture(
        torch.tensor([0.3, 0.7]).double(), torch.from_numpy(generator.normal(size=(2, 3))), covariances
    )


def rows(n: int = 12) -> torch.Tensor:
    x = np.random.default_rng(1).normal(size=(n, 3))
    x[np.random.default_rng(2).random(x.shape) < 0.4] = np.nan
    x[0] = np.nan
    x[1] = [0.1, -0.4, 1.0]
    return torch.from_numpy(x)


def by_hand(row: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean and covariance of the gaps given the rest, and log p of the rest."""
    m = np.isnan(row)
    o = ~m
    s = np.linalg.inv(covariance[np.ix_(o, o)]) if o.any() else np.zeros((0, 0))
    gain = covariance[np.ix_(m, o)] @ s
    rest = row[o] - mean[o]
    log = -0.5 * (rest @ s @ rest - np.log(np.linalg.det(s)) + o.sum() * np.log(2 * np.pi)) if o.any() else 0.0
    return mean[m] + gain @ rest, covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)], log


def test_what_is_known_of_gaps_is_that_of_each_row_alone() -> None:
    model, x = mixture(), rows()
    shares, means, total = model.given(x)
    for i, row in enumerate(x.numpy()):
        found = [by_hand(row, m, c) for m, c in zip(model.means.numpy(), model.covariances.numpy(), strict=True)]
        joint = np.array([float(w) * np.exp(f[2]) for w, f in zip(model.weights, found, strict=True)])
        assert shares[i].numpy() == pytest.approx(joint / joint.sum(), rel=1e-9)
        assert float(total[i]) == pytest.approx(np.log(joint.sum()), rel=1e-9)
        for k in range(2):
            assert means[k, i][torch.isnan(x[i])].numpy() == pytest.approx(found[k][0], rel=1e-9)
            assert torch.equal(means[k, i][~torch.isnan(x[i])], x[i][~torch.isnan(x[i])])


def test_a_column_that_is_left_out_is_one_more_gap() -> None:
    model, x = mixture(), rows()
    for j, found in enumerate(model.left_out(x)):
        without = x.clone()
        without[:, j] = torch.nan
        assert torch.allclose(found, model.mean(without), rtol=1e-9, atol=1e-12)


def test_draws_have_the_moments_of_the_posterior() -> None:
    model, x = mixture(), rows()
    drawn = model.draw(x, 4000, torch.Generator().manual_seed(0))
    shares, means, _ = model.given(x)
    mean = torch.einsum("nk,knd->nd", shares, means)
    assert torch.equal(drawn[0][~x.isnan()], x[~x.isnan()])
    assert float((drawn.mean(0) - mean).abs().max()) < 0.15
    for i, row in enumerate(x.numpy()):
        m = np.isnan(row)
        if not m.any():
            continue
        expected = np.zeros((m.sum(), m.sum()))
        for k in range(2):
            centre, spread, _ = by_hand(row, model.means[k].numpy(), model.covariances[k].numpy())
            off = (centre - mean[i].numpy()[m])[:, None]
            expected += float(shares[i, k]) * (spread + off @ off.T)
        ours = np.cov(drawn[:, i].numpy()[:, m].T, bias=True).reshape(m.sum(), m.sum())
        assert np.abs(ours - expected).max() < 0.08 * max(1.0, np.abs(expected).max()) + 0.05


def test_em_finds_what_complete_rows_say() -> None:
    generator = np.random.default_rng(5)
    root = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [-0.5, 0.3, 0.8]])
    x = generator.normal(size=(1500, 3)) @ root.T
    lacking = np.where(generator.random(x.shape) < 0.3, np.nan, x)
    found = fit(torch.from_numpy(lacking), 1, steps=60)
    assert np.abs(found.covariances[0].numpy() - root @ root.T).max() < 0.12
    assert np.abs(found.means[0].numpy()).max() < 0.1
    # Rows without gaps alone are fewer, and rows at their means have too little variance.
    assert np.nanvar(np.where(np.isnan(lacking), 0, lacking), axis=0).max() < 0.8


def test_components_are_found_and_heavier_rows_count_more() -> None:
    generator = np.random.default_rng(7)
    group = generator.integers(0, 2, 600)
    x = torch.from_numpy(generator.normal(size=(600, 2)) * 0.2 + np.array([[-1.0, 1], [1, 1]])[group])
    x[generator.random((600, 2)) < 0.1] = float("nan")
    found = fit(x, 2)
    assert sorted(found.means[:, 0].tolist()) == pytest.approx([-1, 1], abs=0.1)
    heavy = torch.where(torch.from_numpy(group == 1), 1.9, 0.1).double()
    weighed = fit(x, 2, heavy)
    assert float(weighed.weights[weighed.means[:, 0].argmax()]) == pytest.approx(0.95, abs=0.02)
