"""Bounds on learned parameters: exact inside, at the bound outside, with a gradient that leads back."""

import torch

from sfumato.numerics.bounds import kept_within

LOWEST, HIGHEST = torch.tensor(-2.0, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)


def test_inside_it_changes_no_bit_and_outside_it_is_the_bound():
    inside = 5 * torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 2
    assert torch.equal(kept_within(inside, LOWEST, HIGHEST), inside)
    outside = torch.tensor([-1e38, -torch.inf, -2.5, 3.5, 1e38, torch.inf], dtype=torch.float64)
    want = torch.tensor([-2.0, -2, -2, 3, 3, 3], dtype=torch.float64)
    torch.testing.assert_close(kept_within(outside, LOWEST, HIGHEST), want, rtol=0, atol=1e-9)


def test_a_parameter_outside_returns():
    x = torch.tensor([-7.0, 0.0, 9.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        (kept_within(x, LOWEST, HIGHEST) - 1).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(x.detach(), torch.ones_like(x), rtol=0, atol=1e-6)
