"""The transformer: its formula by an independent route, and all that a network must be."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato import recipes
from sfumato.data import load
from sfumato.errors import InputError
from sfumato.networks import Configurable, DiT
from sfumato.recipes.networks import DiTNetwork

SMALL = {"patch": 2, "width": 16, "depth": 2, "heads": 2}


def awake(network: DiT) -> DiT:
    """The network with its zeros replaced by noise: a fresh one outputs 0 whatever it gets."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


def inputs(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(3, *shape, dtype=dtype), torch.tensor([0.0, 400.0, 999.0], dtype=dtype)


def by_the_formula(network: DiT, x: Tensor, label: Tensor, width: int, patch: int, heads: int) -> Tensor:
    """One sample (C, H, W) of sides that the patch divides, patch by patch and head by head."""
    e = network.embed(label[None])[0]
    C, H, W = x.shape
    places = [(i, j) for i in range(0, H, patch) for j in range(0, W, patch)]
    rates = [10_000 ** (-k / (width // 4 - 1)) for k in range(width // 4)]

    def waves(n: int) -> list[float]:
        return [math.sin(n * r) for r in rates] + [math.cos(n * r) for r in rates]

    def norm(v: Tensor) -> Tensor:
        return (v - v.mean()) / (v.var(unbiased=False) + 1e-6).sqrt()

    h = torch.stack(
        [
            network.linear_in.weight @ x[:, i : i + patch, j : j + patch].reshape(-1)
            + network.linear_in.bias
            + torch.tensor(waves(i // patch) + waves(j // patch), dtype=x.dtype)
            for i, j in places
        ]
    )
    for block in network.blocks:
        gate1, scale1, shift1, gate2, scale2, shift2 = block.modulation(e).chunk(6)
        z = torch.stack([(1 + scale1) * norm(v) + shift1 for v in h])
        q, k, v = (layer(z) for layer in (block.query, block.key, block.value))
        size = width // heads
        parts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = torch.softmax(q[:, own] @ k[:, own].T / math.sqrt(size), dim=1)
            parts.append(scores @ v[:, own])
        h = h + gate1 * block.out(torch.cat(parts, 1))
        z = torch.stack([(1 + scale2) * norm(v) + shift2 for v in h])
        h = h + gate2 * block.linear2(F.gelu(block.linear1(z), approximate="tanh"))
    scale, shift = network.modulation(e).chunk(2)
    y = torch.zeros_like(x)
    for (i, j), v in zip(places, h, strict=True):
        out = network.linear_out((1 + scale) * norm(v) + shift)
        y[:, i : i + patch, j : j + patch] = out.reshape(C, patch, patch)
    return y


def test_it_computes_its_formula() -> None:
    network = awake(DiT((3, 4, 6), **SMALL)).double()
    x, label = inputs(3, 4, 6)
    expected = torch.stack([by_the_formula(network, *each, 16, 2, 2) for each in zip(x, label, strict=True)])
    # positions are float32
    torch.testing.assert_close(network(x, label), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "patch"), [((1, 8, 8), 2), ((3, 5, 7), 2), ((2, 9), 4), ((1, 12), 1), ((1, 6, 6), 6)]
)
def test_any_shape_of_images_and_signals(shape: tuple[int, ...], patch: int) -> None:
    network = DiT(shape, **{**SMALL, "patch": patch}, outputs=2, conditions=4, extra=1)
    x, label = inputs(shape[0] + 1, *shape[1:], dtype=torch.float32)
    cond = torch.randn(3, 4)
    y = network(x, label, cond)
    assert y.shape == (3, 2 * shape[0], *shape[1:])
    assert not y.any()
    awake(network)
    y = network(x, label, cond)
    assert not torch.allclose(y, network(x, label, None))
    assert not torch.allclose(y, network(x, label + 1, cond))
    x[:, -1] += 1  # the extra channel is seen
    assert not torch.allclose(y, network(x, label, cond))
    for i in range(3):
        torch.testing.assert_close(
            network(x, label, cond)[i], network(x[i : i + 1], label[i : i + 1], cond[i : i + 1])[0]
        )


def test_every_position_sees_every_other() -> None:
    network = awake(DiT((1, 6, 6), **SMALL)).double()
    x, label = inputs(1, 6, 6)
    jacobian = torch.autograd.functional.jacobian(lambda v: network(v[None], label[:1])[0], x[0])
    assert (jacobian.abs() > 0).all()
    moved = network(x.roll(2, 3), label).roll(-2, 3)
    assert not torch.allclose(network(x, label), moved)  # and knows where it is


def test_choices_of_execution_compute_the_same() -> None:
    network = awake(DiT((1, 8, 8), **SMALL))
    x, label = inputs(1, 8, 8, dtype=torch.float32)
    assert isinstance(network, Configurable)
    assert network.units() == list(network.blocks)
    y = network(x, label)
    network.configure(attention="fused", lean_norms=True)
    torch.testing.assert_close(network(x, label), y)
    network.configure(attention="written", lean_norms=False)
    gradients = []
    for recompute in (False, True):
        network.configure(recompute=recompute)
        network.zero_grad()
        network(x, label).square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x, label)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, y, rtol=0.1, atol=0.1)
    tangent = torch.func.jvp(lambda v: network(v, label), (x,), (torch.ones_like(x),))[1]
    assert tangent.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"width": 18, "heads": 4}, "width=18"), ({"width": 6, "heads": 2}, "width=6"), ({"patch": 0}, "patch=0")],
)
def test_what_cannot_be_built_is_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DiT((1, 8, 8), **{**SMALL, **settings})
    with pytest.raises(InputError, match="neither a signal nor an image"):
        DiT((5,))


def test_patches_and_embedding_are_chosen_from_the_data() -> None:
    spec = load("digits").spec
    ours = recipes.read("flow", ["network.kind=dit"]).resolved(spec).network
    assert isinstance(ours, DiTNetwork)
    assert (ours.patch, ours.embedding) == (1, "sinusoidal")  # 64 positions
    edm = recipes.read("edm", ["network.kind=dit", "network.patch=4"]).resolved(spec).network
    assert isinstance(edm, DiTNetwork)
    assert (edm.patch, edm.embedding) == (4, "fourier")
