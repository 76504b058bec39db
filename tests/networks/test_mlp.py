import math

import pytest
import torch
from torch import nn

from sfumato.errors import InputError
from sfumato.networks import MLP, Fourier
from sfumato.networks.mlp import CoordinateFeatures

SMALL = {"width": 8, "depth": 2}


def awake(network):
    """The network with its zeros replaced by noise, as after some training: a fresh one outputs 0 whatever it gets."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


def standardised(h):
    mean = sum(h.tolist()) / len(h)
    variance = sum((v - mean) ** 2 for v in h.tolist()) / len(h)
    return (h - mean) / math.sqrt(variance + 1e-5)


def silu(h):
    return h / (1 + (-h).exp())


def test_is_the_written_formula():
    network = awake(MLP((3,), **SMALL)).double().requires_grad_(False)
    p = dict(network.named_parameters())
    x, label = torch.randn(3, dtype=torch.float64), torch.tensor([17.0], dtype=torch.float64)

    def affine(name, h):
        return p[f"{name}.weight"] @ h + p[f"{name}.bias"]

    e = network.embed(label)[0]
    angles = [
        2 * math.pi * sum(f * v for f, v in zip(row, x.tolist(), strict=True))
        for row in network.features.frequencies.tolist()
    ]
    assert len(angles) == 4
    waves = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    h = affine("linear_in", torch.cat([x, torch.tensor(waves, dtype=torch.float64)]))
    for i in range(2):
        scale, shift = affine(f"blocks.{i}.modulation", e).split(8)
        z = affine(f"blocks.{i}.linear1", (1 + scale) * standardised(h) + shift)
        h = h + affine(f"blocks.{i}.linear2", silu(z))
    y = affine("linear_out", silu(standardised(h) * p["norm.weight"] + p["norm.bias"])) + affine("gain", e) * x
    assert torch.allclose(network(x[None], label)[0], y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_frequencies_get_lower_with_the_dimension(n):
    torch.manual_seed(0)
    frequencies = CoordinateFeatures(n, 10_000).frequencies
    # the angles of x of unit variance: mean square (2 pi)^2 n * 2 / n^3 = 8 pi^2 / n^2, over n * 10,000 squared normals
    mean_square = (2 * math.pi) ** 2 * n * float(frequencies.square().mean())
    assert abs(mean_square * n**2 / (8 * math.pi**2) - 1) < 5 * math.sqrt(2 / frequencies.numel())


@pytest.mark.parametrize("shape", [(12,), (3, 4), (1, 2, 6), (2, 1, 3, 2)])
def test_takes_any_shape_as_a_vector(shape):
    network, flat = awake(MLP(shape, **SMALL)), MLP((12,), **SMALL).eval()
    flat.load_state_dict(network.state_dict())
    x, label = torch.randn(3, *shape), torch.tensor([-1.0, 0.0, 2.5])
    y = network(x, label)
    assert y.shape == x.shape
    assert torch.equal(y.flatten(1), flat(x.flatten(1), label))


@pytest.mark.parametrize("embedding", ["sinusoidal", "fourier"])
def test_a_sample_never_depends_on_its_neighbours(embedding):
    network = awake(MLP((2, 3), embedding=embedding, **SMALL)).double()
    assert isinstance(network.embed.features, Fourier) == (embedding == "fourier")
    x, label = torch.randn(5, 2, 3, dtype=torch.float64), torch.linspace(-3, 3, 5, dtype=torch.float64)
    together = network(x, label)
    alone = torch.cat([network(x[i : i + 1], label[i : i + 1]) for i in range(5)])
    assert (together - alone).abs().max() < 1e-12
    assert (together[0] - together[1]).abs().max() > 1e-3
    assert network(x[:0], label[:0]).shape == (0, 2, 3)


@pytest.mark.parametrize("embedding", ["sinusoidal", "fourier"])
def test_the_label_matters(embedding):
    network = awake(MLP((2,), embedding=embedding, **SMALL))
    y = network(torch.ones(4, 2), torch.tensor([-2.5, 0.0, 0.4, 999.0]))
    assert all((y[i] - y[j]).abs().max() > 1e-3 for i in range(4) for j in range(i))


@pytest.mark.parametrize("shape", [(2,), (2, 3)])
def test_a_condition_of_zeros_says_nothing(shape):
    torch.manual_seed(0)
    told = awake(MLP(shape, conditions=5, **SMALL))
    plain = MLP(shape, **SMALL).eval()
    weights = told.state_dict()
    assert weights.pop("embed.condition.weight").any()
    plain.load_state_dict(weights)  # strictly: there is nothing else that is new
    x, label = torch.randn(3, *shape), torch.tensor([-1.0, 0.0, 40.0])
    y = plain(x, label)
    assert torch.equal(told(x, label), y)
    assert torch.equal(told(x, label, torch.zeros(3, 5)), y)
    # Each number is heard, of its own sample only.
    for i in range(5):
        cond = torch.zeros(3, 5)
        cond[1, i] = 1.0
        heard = (told(x, label, cond) - y).abs().flatten(1).amax(1)
        assert heard[1] > 1e-5
        assert not heard[[0, 2]].any()


def test_gradients_reach_the_map_of_the_conditions():
    torch.manual_seed(0)
    network = awake(MLP((2,), conditions=5, **SMALL))
    x, cond = torch.randn(4, *(2,)), torch.randn(4, 5)
    (network(x, torch.linspace(-2, 2, 4), cond) - x).square().mean().backward()
    assert network.embed.condition.weight.grad.abs().min() > 0
    assert network.embed.condition.weight.grad.norm() > 1e-6


def test_refuses_a_condition_that_was_not_declared():
    x, label = torch.zeros(2, *(2,)), torch.zeros(2)
    with pytest.raises(InputError, match="conditions=0"):
        MLP((2,), **SMALL)(x, label, torch.zeros(2, 5))
    with pytest.raises(InputError, match=r"give cond of shape \(2, 5\)"):
        MLP((2,), conditions=5, **SMALL)(x, label, torch.zeros(2, 4))
    with pytest.raises(InputError, match="conditions=-1"):
        MLP((2,), conditions=-1, **SMALL)


def test_a_fresh_network_outputs_zero():
    assert not MLP((2,), **SMALL)(torch.randn(3, 2), torch.ones(3)).any()


def gradients(network):
    torch.manual_seed(1)
    x = torch.randn(8, *network.shape)
    network.zero_grad()
    (network(x, torch.linspace(-2, 2, 8)) - x).square().mean().backward()
    return {name: float(p.grad.norm()) for name, p in network.named_parameters()}


def test_gradients_reach_every_parameter():
    assert min(gradients(awake(MLP((2,), **SMALL))).values()) > 1e-6


def test_zeros_hide_parameters_for_three_steps_only():
    network = MLP((2,), **SMALL)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    reached = []
    for _ in range(4):
        reached.append({name.rsplit(".", 1)[0] for name, size in gradients(network).items() if size > 0})
        optimiser.step()
    # Each is behind one more layer of zeros: the output's, a block's second layer's, its modulation's.
    assert reached[0] == {"linear_out", "gain"}
    hidden = {"linear_in", "norm", "blocks.0.linear2", "blocks.1.linear2"}
    assert reached[1] - reached[0] == hidden | {"embed.linear1", "embed.linear2"}  # the gain lets these be seen at once
    assert reached[2] - reached[1] == {f"blocks.{i}.{name}" for i in (0, 1) for name in ("linear1", "modulation")}
    assert reached[3] - reached[2] == set()


def test_dropout_is_random_in_training_only():
    network = awake(MLP((2,), dropout=0.5, **SMALL))
    x, label = torch.randn(1, 2), torch.ones(1)
    assert torch.equal(network(x, label), network(x, label))
    network.train()
    assert (network(x, label) - network(x, label)).abs().max() > 1e-3


def test_learns_the_denoiser_of_the_corners_of_a_square():
    # x_0 = (+-1, +-1), x = x_0 + sigma eps: E[x_0 | x] = tanh(x / sigma^2). The label is log sigma.
    torch.manual_seed(0)
    network = MLP((2,), width=32, depth=2, embedding="fourier")
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)

    def batch(n):
        sigma = torch.exp(torch.linspace(-2, 1, n))[:, None]
        x_0 = 2.0 * torch.randint(0, 2, (n, 2)) - 1.0
        return x_0, sigma, x_0 + sigma * torch.randn(n, 2)

    for k in range(300):
        optimiser.param_groups[0]["lr"] = 5e-3 * (1 - k / 300)
        x_0, sigma, x = batch(256)
        loss = (network(x / (1 + sigma**2).sqrt(), sigma[:, 0].log()) - x_0).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    _, sigma, x = batch(4096)
    with torch.no_grad():
        error = network(x / (1 + sigma**2).sqrt(), sigma[:, 0].log()) - torch.tanh(x / sigma**2)
    # The best linear denoiser, x / (1 + sigma^2), is off by 0.24 in root mean square, a fresh network by 0.84.
    assert float(error.square().mean().sqrt()) < 0.12


def test_works_at_bfloat16():
    network = awake(MLP((2,), **SMALL))
    x, label = torch.randn(64, 2).bfloat16(), torch.linspace(0, 1000, 64)
    expected = network(x.float(), label)
    y = network.bfloat16()(x, label)
    assert y.dtype == torch.bfloat16
    # eight bits, 4e-3 a rounding, on angles of up to 10
    assert (y.float() - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"shape": ()}, "shape=()"),
        ({"shape": (2, 0)}, "shape=(2, 0)"),
        ({"width": 7}, "width=7"),
        ({"width": 2}, "at least 4"),
        ({"depth": 0}, "depth=0"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"embedding": "none"}, "embedding='none'"),
    ],
)
def test_refuses(arguments, said):
    with pytest.raises(InputError) as refusal:
        MLP(**{"shape": (2,), **SMALL, **arguments})
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_refuses_samples_of_another_shape():
    with pytest.raises(InputError, match=r"x of shape \(5, 3\) does not fit .* shape=\(2,\)"):
        MLP((2,), **SMALL)(torch.zeros(5, 3), torch.zeros(5))
