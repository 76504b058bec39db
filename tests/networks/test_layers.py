import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from sfumato.errors import InputError
from sfumato.networks.layers import Downsample, ResidualBlock, SelfAttention, Upsample, group_norm, norm_silu

SIDES = [(6,), (4, 6)]


@pytest.fixture(autouse=True)
def _double():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def randomised(module):
    """Every parameter drawn anew: what starts at zero would hide what it multiplies."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.requires_grad_(False)


def correlate(x, weight, bias, starts):
    """y[o, p] = bias[o] + sum over c, k of weight[o, c, k] x[c, starts[p] + k], with zeros outside x; loops."""
    y = torch.empty(weight.shape[0], *(len(s) for s in starts))
    for o in range(weight.shape[0]):
        for position in itertools.product(*(range(len(s)) for s in starts)):
            total = float(bias[o])
            for k in itertools.product(*(range(n) for n in weight.shape[2:])):
                at = [s[p] + j for s, p, j in zip(starts, position, k, strict=True)]
                if all(0 <= a < n for a, n in zip(at, x.shape[1:], strict=True)):
                    total += float((weight[(o, slice(None), *k)] * x[(slice(None), *at)]).sum())
            y[(o, *position)] = total
    return y


def normalise(x, norm):
    """Group norm of one sample, from its definition."""
    rows = x.reshape(norm.num_groups, -1)
    rows = (rows - rows.mean(1, keepdim=True)) / (rows.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    per_channel = (-1,) + (1,) * (x.ndim - 1)
    return rows.reshape(x.shape) * norm.weight.reshape(per_channel) + norm.bias.reshape(per_channel)


@pytest.mark.parametrize("sides", SIDES)
def test_downsample_is_a_correlation_that_starts_at_even_positions(sides):
    layer = randomised(Downsample(len(sides), 3))
    x = torch.randn(1, 3, *sides)
    expected = correlate(x[0], layer.conv.weight, layer.conv.bias, [range(0, n, 2) for n in sides])
    assert torch.allclose(layer(x)[0], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("sides", SIDES)
def test_upsample_repeats_and_then_correlates(sides):
    layer = randomised(Upsample(len(sides), 3))
    x = torch.randn(1, 3, *sides)
    repeated = x[0]
    for axis in range(1, repeated.ndim):
        repeated = repeated.repeat_interleave(2, dim=axis)
    expected = correlate(repeated, layer.conv.weight, layer.conv.bias, [range(-1, 2 * n - 1) for n in sides])
    assert torch.allclose(layer(x)[0], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("out_channels", [4, 6])
def test_residual_block_is_the_written_formula(sides, out_channels):
    layer = randomised(ResidualBlock(len(sides), 4, out_channels, 5, groups=2)).eval()
    x, e = torch.randn(1, 4, *sides), torch.randn(1, 5)
    around = [range(-1, n - 1) for n in sides]
    trailing = (-1,) + (1,) * len(sides)
    h = correlate(F.silu(normalise(x[0], layer.norm1)), layer.conv1.weight, layer.conv1.bias, around)
    h = h + (layer.embed.weight @ e[0] + layer.embed.bias).reshape(trailing)
    h = correlate(F.silu(normalise(h, layer.norm2)), layer.conv2.weight, layer.conv2.bias, around)
    shortcut = x[0]
    if out_channels != 4:
        shortcut = correlate(x[0], layer.shortcut.weight, layer.shortcut.bias, [range(n) for n in sides])
    assert torch.allclose(layer(x, e)[0], shortcut + h, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("heads", [1, 2, 6])
def test_attention_is_an_explicit_softmax(sides, heads):
    layer = randomised(SelfAttention(6, heads=heads, groups=3))
    x = torch.randn(1, 6, *sides)
    h = normalise(x[0], layer.norm).reshape(6, -1).T
    q, k, v = (h @ m.weight.T + m.bias for m in (layer.query, layer.key, layer.value))
    d = 6 // heads
    mixed = torch.zeros_like(h)
    for head, i in itertools.product(range(heads), range(len(h))):
        part = slice(head * d, (head + 1) * d)
        scores = [math.exp(float(q[i, part] @ k[j, part]) / math.sqrt(d)) for j in range(len(h))]
        for j, score in enumerate(scores):
            mixed[i, part] += score / sum(scores) * v[j, part]
    expected = x[0] + (mixed @ layer.out.weight.T + layer.out.bias).T.reshape(x[0].shape)
    assert torch.allclose(layer(x)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch itself, on its first jvp
def test_attention_has_forward_and_second_derivatives():
    layer = randomised(SelfAttention(4, heads=2, groups=2))
    x, u, w = torch.randn(3, 2, 4, 3, 2).unbind()
    _, forward = torch.func.jvp(layer, (x,), (u,))
    _, pull = torch.func.vjp(layer, x)
    (backward,) = pull(w)
    assert math.isclose(float((w * forward).sum()), float((backward * u).sum()), rel_tol=1e-12)
    assert torch.autograd.gradgradcheck(layer, x.requires_grad_())


def test_fresh_blocks_are_their_shortcuts():
    x, e = torch.randn(2, 4, 3, 5), torch.randn(2, 7)
    assert torch.equal(ResidualBlock(2, 4, 4, 7)(x, e), x)
    wider = ResidualBlock(2, 4, 6, 7)
    assert torch.equal(wider(x, e), wider.shortcut(x))
    assert torch.equal(SelfAttention(4)(x), x)


def test_fresh_weights_have_xavier_variance_and_biases_are_zero():
    layer = ResidualBlock(2, 64, 128, 256).requires_grad_(False)
    for name, fans in (("conv1", 9 * (64 + 128)), ("embed", 256 + 128), ("shortcut", 64 + 128)):
        weight = getattr(layer, name).weight
        # a uniform's fourth moment is 9/5 of its squared variance: the estimate's relative error is sqrt(0.8 / n)
        assert abs(float(weight.square().mean()) * fans / 2 - 1) < 5 * math.sqrt(0.8 / weight.numel())
        assert weight.abs().max() <= math.sqrt(6 / fans)
        assert not getattr(layer, name).bias.any()


@pytest.mark.parametrize(
    ("channels", "groups", "count"),
    [(128, 32, 32), (384, 32, 32), (48, 32, 24), (40, 32, 20), (32, 32, 16), (64, 5, 4), (7, 4, 1), (1, 32, 1)],
)
def test_group_norm_takes_the_largest_divisor_that_leaves_two_channels(channels, groups, count):
    assert group_norm(channels, groups).num_groups == count


def test_the_embedding_is_felt_whatever_the_groups():
    # With one channel to a group the shift by the embedding would be normalised away.
    layer = randomised(ResidualBlock(1, 4, 4, 3, groups=32))
    x = torch.randn(1, 4, 6)
    a, b = layer(x, torch.zeros(1, 3)), layer(x, torch.ones(1, 3))
    assert (a - b).abs().max() > 0.01


def test_dropout_is_between_the_second_activation_and_convolution():
    # All but conv2 and the norm's bias at zero: conv2 sees silu(bias) = s > 0 everywhere, dropped or s / (1 - p).
    layer = ResidualBlock(1, 2, 2, 3, dropout=0.25).requires_grad_(False)
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(layer.norm2.bias)
    layer.conv2.weight[0, 0, 1] = 1.0
    n = 20_000
    x, e = torch.zeros(1, 2, n), torch.zeros(1, 3)
    s = 1 / (1 + math.exp(-1))
    kept = layer(x, e)[0, 0] / (s / 0.75)
    assert torch.allclose(kept, kept.round(), rtol=0, atol=1e-12)
    # standard error sqrt(0.25 * 0.75 / n) of the share that is kept; five of them
    assert abs(float(kept.mean()) - 0.75) < 5 * math.sqrt(0.25 * 0.75 / n)
    assert torch.allclose(layer.eval()(x, e)[0, 0], torch.full((n,), s), rtol=0, atol=1e-12)


def test_heads_must_divide_the_channels():
    with pytest.raises(InputError, match="heads=3 does not divide the 8 channels"):
        SelfAttention(8, heads=3)


def test_a_norm_that_spares_memory_gives_the_same_gradients_and_keeps_its_input_alone():
    layer = norm_silu(8, 4)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    found, kept = [], []
    for lean in (False, True):
        layer.lean = lean
        x = torch.randn(3, 8, 5, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
        seen: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, seen=seen: seen.append(t.numel()) or t, lambda t: t):
            y = layer(x)
        found.append((y, *torch.autograd.grad(y.square().sum(), (x, *layer.parameters()))))
        kept.append(sum(n == x.numel() for n in seen))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert kept == [2, 1]
    (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
