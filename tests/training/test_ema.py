import torch
from torch import nn

from sfumato.training.ema import EMA


def test_the_average_is_the_weighted_sum_written_out() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2).double()
    ema = EMA(network, half_life=100, ramp=0.5)
    expected = network.weight.detach().clone()
    for step in range(1, 30):
        network.weight.data = torch.randn(2, 3, dtype=torch.float64)
        ema.update(list(network.parameters()), 10 * step, batch=10)
        decay = 2 ** (-10 / min(100, 0.5 * 10 * step))
        expected = decay * expected + (1 - decay) * network.weight
    torch.testing.assert_close(ema.module.weight, expected.detach(), atol=1e-14, rtol=0)


def test_half_is_forgotten_after_half_a_life() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1.0)
    ema = EMA(network, half_life=1000, ramp=1.0)
    network.weight.data.fill_(0.0)
    for step in range(100):  # long after the ramp, 1000 images in all, at one batch size and then another
        ema.update(list(network.parameters()), 100_000 + 10 * step, batch=10)
    assert abs(float(ema.module.weight) - 0.5) < 1e-5


def test_buffers_do_not_move_and_the_network_is_left_alone() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = EMA(network, half_life=10, ramp=1.0)
    before = {name: value.clone() for name, value in ema.module.named_buffers()}
    network(torch.randn(8, 2))  # moves the network's own running mean
    weights = [p.clone() for p in network.parameters()]
    ema.update(list(network.parameters()), 10, batch=10)
    assert all(torch.equal(before[name], value) for name, value in ema.module.named_buffers())
    assert all(torch.equal(a, b) for a, b in zip(weights, network.parameters(), strict=True))
    assert not any(p.requires_grad for p in ema.module.parameters())
