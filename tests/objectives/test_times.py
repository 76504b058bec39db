"""Times of training: strata, their union, and the levels of a chain."""

import math

import pytest
import torch
from scipy import stats

from sfumato.numerics import random
from sfumato.objectives import ChainTimes, UniformTimes
from sfumato.objectives.times import stratify


@pytest.mark.parametrize("batch", [1, 2, 49, 98, 103, 1000])
def test_one_sample_in_each_stratum(batch):
    # 49, 98 and 103 are batch sizes for which arange(0, 1, 1 / B) has B + 1 values.
    for seed in range(5):
        uniform = random.uniform(random.keys(seed, torch.arange(batch)), 0, 1)[:, 0]
        u = stratify(uniform, torch.arange(batch), batch)
        assert u.shape == (batch,)
        assert u.dtype == torch.float64
        assert ((u > 0) & (u < 1)).all()
        assert (u * batch).floor().long().tolist() == list(range(batch))


def test_strata_do_not_depend_on_who_holds_them():
    uniform = random.uniform(random.keys(0, torch.arange(12)), 0, 1)[:, 0]
    whole = stratify(uniform, torch.arange(12), 12)
    parts = [stratify(uniform[i::3], torch.arange(12)[i::3], 12) for i in range(3)]
    for i in range(3):
        assert torch.equal(parts[i], whole[i::3])


def test_stratified_times_are_uniform_together():
    # 200 batches of 49; against an exact law, Kolmogorov-Smirnov sees a shift of 0.02. Strata make the fit better.
    batches = [
        stratify(random.uniform(random.keys(seed, torch.arange(49)), 0, 1)[:, 0], torch.arange(49), 49)
        for seed in range(200)
    ]
    t = UniformTimes()(torch.cat(batches))
    assert stats.kstest(t.numpy(), "uniform").pvalue > 1e-3
    within = (torch.stack(batches) * 49) % 1
    assert stats.kstest(within.flatten().numpy(), "uniform").pvalue > 1e-3
    assert abs(float(within.mean()) - 0.5) < 4 / math.sqrt(12 * within.numel())


def test_stratified_averages_vary_less():
    # The variance of a mean of t over a batch of B falls from 1/(12 B) to 1/(12 B^3).
    seeds = [random.uniform(random.keys(seed, torch.arange(50)), 0, 1)[:, 0] for seed in range(200)]
    means = torch.stack([stratify(u, torch.arange(50), 50).mean() for u in seeds])
    expected = 1 / (12 * 50**3)
    # A variance estimated from 200 means is off by 10 %.
    assert float(means.var()) == pytest.approx(expected, rel=0.4)


@pytest.mark.parametrize("steps", [1, 3, 10, 49, 1000])
def test_chain_times_hit_each_level_equally(steps):
    each = 7
    quantiles = (torch.arange(steps * each).double() + 0.5) / (steps * each)
    k = ChainTimes(steps)(quantiles) * steps
    levels, counts = k.round().unique(return_counts=True)
    assert levels.tolist() == list(range(1, steps + 1))
    assert (counts == each).all()
    torch.testing.assert_close(k, k.round(), rtol=1e-15, atol=0)


def test_chain_times_are_the_levels_themselves():
    steps = 1000
    got = ChainTimes(steps)((torch.arange(steps).double() + 0.5) / steps)
    assert torch.equal(got, torch.arange(1, steps + 1).double() / steps)


def test_chain_times_at_the_ends_of_the_quantiles():
    ends = torch.tensor([2.0**-54, 1 - 2.0**-53], dtype=torch.float64)
    for steps in (1, 3, 1000):
        assert ChainTimes(steps)(ends).tolist() == [1 / steps, 1]
    # Rounding may carry a stratified quantile to 1 itself.
    assert ChainTimes(10)(torch.ones(1, dtype=torch.float64)).tolist() == [1]
