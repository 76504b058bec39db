"""Dropout by key: the right share, independent of everything but the key, and scaled so that means stay."""

import math

import pytest
import torch

from sfumato.networks import Dropout
from sfumato.numerics import random


def keyed(p: float, keys: torch.Tensor) -> Dropout:
    layer = Dropout(p).train()
    layer.keys = keys
    return layer


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_and_the_scale(p: float) -> None:
    keys = random.keys(3, torch.arange(20))
    y = keyed(p, keys)(torch.ones(20, 4, 50, 50))
    kept = y > 0
    assert torch.all(y[kept] == torch.tensor(1 / (1 - p)))
    n = kept.numel()
    assert abs(float(kept.double().mean()) - (1 - p)) < 5 * math.sqrt(p * (1 - p) / n)
    # Each sample by itself as well: the variance of their shares is a binomial's.
    shares = kept.double().flatten(1).mean(1)
    assert float(((shares - (1 - p)) ** 2).mean()) < 3 * p * (1 - p) / 10_000


def test_masks_of_samples_places_and_layers_are_uncorrelated() -> None:
    """Every correlation below is of n = 64 * 10,000 pairs or more, so that 5 / sqrt(n) is five standard deviations."""
    keys = random.keys(1, torch.arange(65))
    ones = torch.ones(65, 10_000)
    mask = (keyed(0.5, keys)(ones) > 0).double() - 0.5
    other = (keyed(0.5, random.keys(random.derive("dropout", 1), keys))(ones) > 0).double() - 0.5
    n = 64 * 10_000
    assert abs(float((mask[1:] * mask[:-1]).mean()) / 0.25) < 5 / math.sqrt(n)
    assert abs(float((mask * other).mean()) / 0.25) < 5 / math.sqrt(n)
    for lag in (1, 2, 3, 8, 32, 100, 1024):
        assert abs(float((mask[:, lag:] * mask[:, :-lag]).mean()) / 0.25) < 5 / math.sqrt(65 * (10_000 - lag)), lag


def test_a_mask_belongs_to_its_sample_whatever_the_batch() -> None:
    keys = random.keys(5, torch.arange(40))
    x = torch.randn(40, 3, 64, 64)  # hashed some samples at a time
    whole = keyed(0.3, keys)(x)
    for rows in (slice(0, 1), slice(7, 30), slice(39, 40)):
        assert torch.equal(keyed(0.3, keys[rows])(x[rows]), whole[rows])
    order = torch.randperm(40)
    assert torch.equal(keyed(0.3, keys[order])(x[order]), whole[order])


def test_nothing_is_dropped_outside_training_or_at_zero() -> None:
    x = torch.randn(2, 5)
    assert keyed(0.5, torch.arange(2)).eval()(x) is x
    assert keyed(0.0, torch.arange(2))(x) is x


def test_without_keys_it_is_torchs() -> None:
    x = torch.ones(4, 1000)
    torch.manual_seed(0)
    a = Dropout(0.25).train()(x)
    torch.manual_seed(0)
    assert torch.equal(a, torch.nn.functional.dropout(x, 0.25))


def test_the_gradient_passes_where_the_value_did() -> None:
    x = torch.randn(3, 100, requires_grad=True)
    y = keyed(0.4, torch.arange(3))(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, y)
