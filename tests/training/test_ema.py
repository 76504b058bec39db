"""Averages over several horizons, against their integrals and against an average that was really followed."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.errors import InputError
from sfumato.networks import MLP
from sfumato.training.ema import CANDIDATES, EMA, WIDTHS, Profile, coefficients, combine


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_the_width_is_the_standard_deviation_of_the_profile(width: float) -> None:
    gamma = Profile(1, width).gamma
    tau = (np.arange(200_000) + 0.5) / 200_000
    p = (gamma + 1) * tau**gamma / len(tau)
    mean = (p * tau).sum()
    assert p.sum() == pytest.approx(1, abs=1e-6)
    assert math.sqrt((p * (tau - mean) ** 2).sum()) == pytest.approx(width, rel=1e-4)


def test_overlaps_are_integrals() -> None:
    a, b = Profile(700, 0.07), Profile(1000, 0.2)
    tau = (np.arange(400_000) + 0.5) * 1000 / 400_000

    def density(p: Profile) -> np.ndarray:
        inside = (p.gamma + 1) / p.images * (tau / p.images) ** p.gamma
        return np.where(tau <= p.images, inside, 0.0)

    assert a.overlap(b) == pytest.approx((density(a) * density(b)).sum() * 1000 / 400_000, rel=1e-4)
    assert a.overlap(b) == b.overlap(a)


def test_an_average_is_its_integral() -> None:
    """Weights that are a known function of the images seen, in small steps: sum_k p(k) theta(k)."""
    layer = nn.Linear(1, 1, bias=False).double()
    ema = EMA(layer, (0.05, 0.2))
    steps, batch = 4000, 16
    theta = np.sin(np.arange(1, steps + 1) / 300)
    for k in range(steps):
        layer.weight.data.fill_(theta[k])
        ema.update(list(layer.parameters()), batch * (k + 1), batch)
    tau = (np.arange(steps) + 0.5) / steps
    for width, module in zip(ema.widths, ema.modules, strict=True):
        gamma = Profile(1, width).gamma
        expected = ((gamma + 1) * tau**gamma * theta).sum() / steps
        assert float(module.weight) == pytest.approx(expected, abs=2 / steps * gamma)


def test_the_first_step_forgets_the_initial_weights() -> None:
    layer = nn.Linear(3, 2)
    ema = EMA(layer)
    layer.weight.data.fill_(7.0)
    ema.update(list(layer.parameters()), 64, 64)
    assert all(torch.equal(module.weight, layer.weight) for module in ema.modules)


def test_every_candidate_is_near_a_combination_of_those_that_are_followed() -> None:
    for width in CANDIDATES:
        c, distance = coefficients([Profile(1, followed) for followed in WIDTHS], Profile(1, width))
        assert sum(c) == pytest.approx(1, abs=1e-9)
        assert distance < (1e-6 if width in WIDTHS else 0.054), width
        assert sum(map(abs, c)) < 2  # no large numbers that cancel, which would amplify the rounding of weights


def test_the_distance_is_that_of_the_profiles() -> None:
    """In L2, by sums over a fine grid instead of the closed form of overlaps."""
    tau = (np.arange(400_000) + 0.5) / 400_000

    def density(width: float) -> np.ndarray:
        gamma = Profile(1, width).gamma
        return (gamma + 1) * tau**gamma

    for wanted in (0.07, 0.15):
        c, distance = coefficients([Profile(1, width) for width in WIDTHS], Profile(1, wanted))
        combined = sum(factor * density(width) for factor, width in zip(c, WIDTHS, strict=True))
        apart = math.sqrt(((combined - density(wanted)) ** 2).sum() / (density(wanted) ** 2).sum())
        assert distance == pytest.approx(apart, rel=1e-3)


@pytest.mark.parametrize("wanted", [0.07, 0.15])
def test_a_combined_average_is_the_one_that_was_followed(wanted: float) -> None:
    """Weights on a random walk; the combination is to be four times nearer than any that was followed."""
    torch.manual_seed(0)
    layer = nn.Linear(200, 1, bias=False).double()
    followed, true = EMA(layer), EMA(layer, (wanted,))
    images, batch = 100_000, 50
    walk = torch.zeros(1, 200, dtype=torch.float64)
    for seen in range(batch, images + 1, batch):
        walk = walk + 0.03 * torch.randn(1, 200, dtype=torch.float64)
        layer.weight.data = walk.clone()
        for ema in (followed, true):
            ema.update(list(layer.parameters()), seen, batch)
    out = nn.Linear(200, 1, bias=False).double()
    distance = combine(out, followed.state(), WIDTHS, wanted)
    apart = float((out.weight.detach() - true.modules[0].weight).pow(2).mean().sqrt())
    others = [float((module.weight - true.modules[0].weight).pow(2).mean().sqrt()) for module in followed.modules]
    assert distance < 0.054
    assert apart < 0.25 * min(others)


def test_weights_that_do_not_move_stay_as_they_are() -> None:
    layer = nn.Linear(4, 4)
    ema = EMA(layer)
    out = nn.Linear(4, 4)
    combine(out, ema.state(), WIDTHS, 0.15)
    torch.testing.assert_close(out.weight, layer.weight, rtol=1e-5, atol=1e-6)


def test_buffers_do_not_move_and_the_module_is_left_alone() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = EMA(network, (0.1,))
    before = {name: value.clone() for name, value in ema.modules[0].named_buffers()}
    network(torch.randn(8, 2))  # moves the network's own running mean
    weights = [p.clone() for p in network.parameters()]
    ema.update(list(network.parameters()), 20, batch=10)
    assert all(torch.equal(before[name], value) for name, value in ema.modules[0].named_buffers())
    assert all(torch.equal(a, b) for a, b in zip(weights, network.parameters(), strict=True))
    assert not any(p.requires_grad for p in ema.modules[0].parameters())


def test_what_is_saved_is_loaded_and_another_network_refused() -> None:
    a, b = EMA(nn.Linear(3, 2)), EMA(nn.Linear(3, 2))
    b.load({name: value.clone() for name, value in a.state().items()}, nn.Linear(3, 2), Path("averages.safetensors"))
    assert all(torch.equal(value, b.state()[name]) for name, value in a.state().items())
    for foreign in (EMA(nn.Linear(2, 2)).state(), EMA(nn.Linear(3, 2, bias=False)).state(), {}):
        with pytest.raises(InputError, match=r"averages\.safetensors: '0\.\d+/\w+' does not fit"):
            b.load(foreign, nn.Linear(3, 2), Path("averages.safetensors"))


def test_buffers_are_the_modules_after_loading() -> None:
    """They are drawn once for all, so those of a fresh average are others."""
    a, b = MLP((2,), width=8), MLP((2,), width=8)
    ema = EMA(b)
    ema.load(EMA(a).state(), a, Path("averages.safetensors"))
    for module in ema.modules:
        assert [name for name, _ in module.named_buffers()] == ["features.frequencies"]
        assert all(torch.equal(mine, its) for mine, its in zip(module.buffers(), a.buffers(), strict=True))
