"""Memory is counted as autograd keeps it, and a batch parted so that it fits."""

import gc
import weakref

import torch
from torch import nn

from sfumato.networks import UNet
from sfumato.training.memory import by_sample, fitting_samples, fixed, free, kept_for_backward


def test_what_is_kept_of_a_chain_of_products() -> None:
    """exp keeps its result and the layer its input: two arrays of 4 x 100 floats; the sum keeps nothing."""
    layer = nn.Linear(100, 100)
    x = torch.zeros(4, 100, requires_grad=True)

    def losses() -> torch.Tensor:
        return torch.exp(layer(x * 2.0)).sum(1)

    assert kept_for_backward(losses) == 2 * 4 * 100 * 4


def test_storages_count_once() -> None:
    x = torch.zeros(10, requires_grad=True) * 1.0

    def losses() -> torch.Tensor:
        return x * x.view(10)

    assert kept_for_backward(losses) == 40


def test_the_share_of_a_sample_and_the_rest() -> None:
    big = torch.zeros(1000, requires_grad=True)

    def losses(count: int) -> torch.Tensor:
        half = torch.exp(big)  # 4,000 bytes, whatever the batch
        x = torch.exp(torch.zeros(count, 25, requires_grad=True))  # 100 a sample
        return x.sum(1) + half.sum()

    assert by_sample(losses, (2, 4)) == by_sample(losses, (1, 3)) == (4000.0, 100.0)
    assert by_sample(losses, (1, 1)) == (4100.0, 0.0)  # a batch of one does not tell its share


def test_blocks_that_are_computed_anew_keep_less_and_give_the_same_gradient() -> None:
    torch.manual_seed(0)
    network = UNet((1, 16, 16), width=16, multipliers=[1, 2], attention=[8], dropout=0.3)
    for p in network.parameters():
        nn.init.normal_(p, std=0.1)
    x, label = torch.randn(3, 1, 16, 16), torch.rand(3)
    for module in network.modules():
        if type(module).__name__ == "Dropout":
            module.keys = torch.arange(3)

    def gradients() -> list[torch.Tensor]:
        network.zero_grad()
        network(x, label).square().sum().backward()
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    before, kept = gradients(), kept_for_backward(lambda: network(x, label))
    network.configure(recompute=True)
    after, still_kept = gradients(), kept_for_backward(lambda: network(x, label))
    assert len(before) == len(after) == len(list(network.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert still_kept < 0.5 * kept
    with torch.no_grad():
        assert network(x, label).shape == x.shape


def test_a_batch_is_halved_until_it_fits() -> None:
    def needed(samples: int) -> float:
        return 100 + 10.0 * samples

    assert fitting_samples(64, needed, 10_000) == 64
    assert fitting_samples(64, needed, 800) == 32  # 0.7 of 800 holds 100 and 46 samples
    assert fitting_samples(65, needed, 800) == 33
    assert fitting_samples(64, needed, 50) == 1  # never nothing: it may go well
    assert fitting_samples(64, needed, None) == 64


def test_the_fixed_part_is_weight_gradient_moments_and_averages() -> None:
    assert fixed([torch.zeros(10, 10), torch.zeros(5)]) == 105 * 28


def test_the_system_tells_what_is_free() -> None:
    told = free(torch.device("cpu"))
    assert told is None or 2**20 < told < 2**50


def test_a_loss_that_differentiates_its_network_is_counted_and_unchanged() -> None:
    """Score matching takes the gradient by x within the loss, and learning differentiates that once more."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
    found: list[list[torch.Tensor]] = []

    def losses(count: int = 4) -> torch.Tensor:
        x = torch.linspace(-1, 1, 3 * count).reshape(count, 3).requires_grad_()
        (slope,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        total = slope.square().sum(1)
        found.append(list(torch.autograd.grad(total.sum(), list(network.parameters()), allow_unused=True)))
        return total

    losses()
    kept = kept_for_backward(losses)
    assert kept > kept_for_backward(lambda: network(torch.ones(4, 3)))
    for plain, counted in zip(*found, strict=True):
        assert (plain is None) == (counted is None)
        assert plain is None or torch.equal(plain, counted)
    assert sum(g is not None for g in found[0]) >= 2


def test_counting_frees_what_it_counts() -> None:
    """exp's node holds exp's result, which holds its node: a circle, were the result what is packed."""
    alive: list[weakref.ref[torch.Tensor]] = []

    def losses() -> torch.Tensor:
        y = torch.exp(torch.zeros(10, requires_grad=True))
        alive.append(weakref.ref(y))
        return y * 1.0

    assert kept_for_backward(losses) == 40
    gc.collect()
    assert alive[0]() is None
