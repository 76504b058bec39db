import math

import pytest
import torch
from torch import nn

from sfumato.errors import InputError
from sfumato.networks import UNet
from sfumato.networks.layers import SelfAttention

SMALL = {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "groups": 4}


def awake(network):
    """The network with its zeros replaced by noise, as after some training: a fresh one outputs 0 whatever it gets."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


def by_execution(network, *inputs):
    """The modules that hold parameters, in the order in which they are called."""
    order, hooks = [], []
    for module in network.modules():
        if list(module.parameters(recurse=False)):
            hooks.append(module.register_forward_hook(lambda module, *_: order.append(module)))
    with torch.no_grad():
        network(*inputs)
    for hook in hooks:
        hook.remove()
    return order


def test_the_defaults_make_the_network_of_ddpm_for_cifar():
    with torch.device("meta"):
        network = UNet((3, 32, 32))
    # the count that is published with google/ddpm-cifar10-32
    assert sum(p.numel() for p in network.parameters()) == 35_746_307
    where = [name for name, module in network.named_modules() if isinstance(module, SelfAttention)]
    assert where == [
        *(f"down.1.blocks.{i}.attention" for i in range(2)),
        "middle.0.attention",
        *(f"up.2.blocks.{i}.attention" for i in range(3)),
    ]


def test_weights_can_be_mapped_by_order():
    network = UNet((1, 8, 8), **SMALL)
    registered = [m for m in network.modules() if list(m.parameters(recurse=False))]
    assert by_execution(network, torch.zeros(1, 1, 8, 8), torch.zeros(1)) == registered


@pytest.mark.parametrize(
    ("config", "ours"),
    [
        # two levels, two heads, blocks that widen beside blocks that do not
        (
            {"block_out_channels": (32, 64), "layers_per_block": 2, "attention_head_dim": 32, "norm_num_groups": 8},
            {"width": 32, "multipliers": (1, 2), "blocks": 2, "attention": (4,), "groups": 8},
        ),
        # three levels of which the first attends, other groups
        (
            {"block_out_channels": (16, 32, 16), "layers_per_block": 1, "attention_head_dim": 8, "norm_num_groups": 4},
            {"width": 16, "multipliers": (1, 2, 1), "blocks": 1, "attention": (8,), "groups": 4},
        ),
    ],
)
def test_agrees_with_diffusers_when_weights_are_mapped_by_order(config, ours):
    diffusers = pytest.importorskip("diffusers")
    attends = [8 // 2**i in ours["attention"] for i in range(len(ours["multipliers"]))]
    theirs = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        **config,
    ).eval()
    # diffusers fixes the channels of a head, we the number of heads: equal channels wherever there is attention
    widths = {c for c, a in zip(config["block_out_channels"], attends, strict=True) if a}
    widths.add(config["block_out_channels"][-1])
    (heads,) = {c // config["attention_head_dim"] for c in widths}
    network = UNet((3, 8, 8), heads=heads, **ours).eval()
    torch.manual_seed(0)
    x, label = torch.randn(3, 3, 8, 8), torch.tensor([0.0, 3.0, 997.0])
    with torch.no_grad():
        for source, copy in zip(by_execution(theirs, x, label), by_execution(network, x, label), strict=True):
            for (a, one), (b, other) in zip(source.named_parameters(), copy.named_parameters(), strict=True):
                assert (a, one.shape) == (b, other.shape)
                one.add_(0.1 * torch.randn_like(one))
                other.copy_(one)
        expected = theirs(x, label).sample
        assert expected.std() > 0.1
        # float32: sums of up to 9 * 128 products through 20 layers
        assert (network(x, label) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_skips_meet_the_way_up_in_reverse():
    network = awake(UNet((1, 8, 8), width=8, multipliers=(1, 2), blocks=2, attention=(), groups=4))
    x, label = torch.randn(2, 1, 8, 8), torch.tensor([1.0, 5.0])
    e = network.embed(label)
    a = network.conv_in(x)
    b = network.down[0].blocks[0](a, e)
    c = network.down[0].blocks[1](b, e)
    d = network.down[0].resample(c)
    f = network.down[1].blocks[0](d, e)
    g = network.down[1].blocks[1](f, e)
    y = network.middle[1](network.middle[0](g, e), e)
    for stage, skips in zip(network.up, ((g, f, d), (c, b, a)), strict=True):
        for block, skip in zip(stage.blocks, skips, strict=True):
            y = block(torch.cat((y, skip), dim=1), e)
        y = y if stage.resample is None else stage.resample(y)
    assert torch.allclose(network(x, label), network.conv_out(network.norm(y)), rtol=0, atol=1e-5)


def test_the_features_of_every_level_have_its_channels_and_sides():
    network = UNet((2, 16, 24), width=8, multipliers=(1, 3, 2), blocks=2, attention=(6,), groups=4)
    seen = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output.shape[1:]}))
    y = network(torch.zeros(1, 2, 16, 24), torch.zeros(1))
    assert y.shape == (1, 2, 16, 24)
    expected = {
        "embed": (32,),
        "conv_in": (8, 16, 24),
        "down.0.blocks.1": (8, 16, 24),
        "down.0": (8, 8, 12),
        "down.1.blocks.0": (24, 8, 12),
        "down.1.blocks.1": (24, 8, 12),
        "down.1": (24, 4, 6),
        "down.2": (16, 4, 6),
        "middle.0": (16, 4, 6),
        "middle.1": (16, 4, 6),
        "up.0.blocks.2": (16, 4, 6),
        "up.0": (16, 8, 12),
        "up.1.blocks.2": (24, 8, 12),
        "up.1": (24, 16, 24),
        "up.2": (8, 16, 24),
        "conv_out": (2, 16, 24),
    }
    assert {name: tuple(seen[name]) for name in expected} == expected
    attention = {name for name, module in network.named_modules() if isinstance(module, SelfAttention)}
    assert attention == {
        *(f"down.2.blocks.{i}.attention" for i in range(2)),
        *(f"up.0.blocks.{i}.attention" for i in range(3)),
        "middle.0.attention",
    }


@pytest.mark.parametrize("shape", [(1, 13), (2, 1), (1, 5, 7), (3, 8, 3), (1, 1, 1)])
def test_padding_is_a_repetition_of_the_last_values(shape):
    options = {**SMALL, "multipliers": (1, 2, 1), "attention": ()}
    sides = [math.ceil(s / 4) * 4 for s in shape[1:]]
    padding = awake(UNet(shape, pad=True, **options)).double()
    whole = UNet((shape[0], *sides), **options).eval().double()
    whole.load_state_dict(padding.state_dict())
    x, label = torch.randn(1, *shape, dtype=torch.float64), torch.tensor([3.5], dtype=torch.float64)
    longer = x
    for axis, (short, side) in enumerate(zip(shape[1:], sides, strict=True), start=2):
        longer = longer.index_select(axis, torch.arange(side).clamp(max=short - 1))
    expected = whole(longer, label)[(..., *(slice(s) for s in shape[1:]))]
    y = padding(x, label)
    assert y.shape == x.shape
    assert torch.equal(y, expected)


def test_pad_changes_nothing_where_sides_fit():
    padding, plain = awake(UNet((1, 8, 4), pad=True, **SMALL)), UNet((1, 8, 4), **SMALL).eval()
    plain.load_state_dict(padding.state_dict())
    x, label = torch.randn(2, 1, 8, 4), torch.tensor([1.0, 2.0])
    assert torch.equal(padding(x, label), plain(x, label))


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 16)])
@pytest.mark.parametrize("embedding", ["sinusoidal", "fourier"])
def test_a_sample_never_depends_on_its_neighbours(shape, embedding):
    network = awake(UNet(shape, embedding=embedding, **{**SMALL, "attention": (shape[-1],)})).double()
    x, label = torch.randn(5, *shape, dtype=torch.float64), torch.linspace(-3, 3, 5, dtype=torch.float64)
    together = network(x, label)
    alone = torch.cat([network(x[i : i + 1], label[i : i + 1]) for i in range(5)])
    assert (together - alone).abs().max() < 1e-12
    assert (together[0] - together[1]).abs().max() > 1e-3
    assert network(x[:0], label[:0]).shape == (0, *shape)


@pytest.mark.parametrize("embedding", ["sinusoidal", "fourier"])
def test_the_label_matters(embedding):
    network = awake(UNet((1, 8, 8), embedding=embedding, **SMALL))
    x = torch.randn(1, 1, 8, 8).expand(4, 1, 8, 8)
    y = network(x, torch.tensor([-2.5, 0.0, 0.4, 999.0]))
    assert all((y[i] - y[j]).abs().max() > 1e-3 for i in range(4) for j in range(i))


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 16)])
def test_a_condition_of_zeros_says_nothing(shape):
    torch.manual_seed(0)
    options = {**SMALL, "attention": (shape[-1],)}
    told = awake(UNet(shape, conditions=5, **options))
    plain = UNet(shape, **options).eval()
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
    network = awake(UNet((1, 8, 8), conditions=5, **SMALL))
    x, cond = torch.randn(4, *(1, 8, 8)), torch.randn(4, 5)
    (network(x, torch.linspace(-2, 2, 4), cond) - x).square().mean().backward()
    assert network.embed.condition.weight.grad.abs().min() > 0
    assert network.embed.condition.weight.grad.norm() > 1e-6


def test_refuses_a_condition_that_was_not_declared():
    x, label = torch.zeros(2, *(1, 8, 8)), torch.zeros(2)
    with pytest.raises(InputError, match="conditions=0"):
        UNet((1, 8, 8), **SMALL)(x, label, torch.zeros(2, 5))
    with pytest.raises(InputError, match=r"give cond of shape \(2, 5\)"):
        UNet((1, 8, 8), conditions=5, **SMALL)(x, label, torch.zeros(2, 4))
    with pytest.raises(InputError, match="conditions=-1"):
        UNet((1, 8, 8), conditions=-1, **SMALL)


def test_a_fresh_network_outputs_zero():
    x = torch.randn(2, 1, 8, 8)
    assert not UNet((1, 8, 8), **SMALL)(x, torch.ones(2)).any()


def gradients(network):
    torch.manual_seed(1)
    x = torch.randn(4, *network.shape)
    network.zero_grad()
    (network(x, torch.linspace(-2, 2, 4)) - x).square().mean().backward()
    return {name: float(p.grad.norm()) for name, p in network.named_parameters()}


def test_gradients_reach_every_parameter_but_the_biases_of_the_keys():
    # A bias of the keys adds the same to all scores of a query, which the softmax takes away: its gradient is 0.
    sizes = gradients(awake(UNet((1, 8, 8), **SMALL)))
    keys = {name for name in sizes if name.endswith("key.bias")}
    assert len(keys) == 1 + 1 + 2  # one on the way down, one in the middle, two on the way up
    assert {name for name, size in sizes.items() if size < 1e-6} == keys


def test_zeros_hide_parameters_for_two_steps_only():
    network = UNet((1, 8, 8), **SMALL)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    reached = []
    for _ in range(3):
        reached.append(
            {name for name, size in gradients(network).items() if size > 0 and not name.endswith("key.bias")}
        )
        optimiser.step()
    everything = {name for name, _ in network.named_parameters() if not name.endswith("key.bias")}
    assert reached[0] == {"conv_out.weight", "conv_out.bias"}  # it is zero itself, so nothing flows past it
    hidden = ("norm1", "conv1", "embed", "norm2", "attention.norm", "query", "key", "value")  # behind a block's zeros
    assert {name for name in everything - reached[1] if not any(part in name for part in hidden)} == set()
    assert reached[2] == everything


def test_dropout_is_random_in_training_only():
    network = awake(UNet((1, 8, 8), dropout=0.5, **SMALL))
    x, label = torch.randn(1, 1, 8, 8), torch.ones(1)
    assert torch.equal(network(x, label), network(x, label))
    network.train()
    assert (network(x, label) - network(x, label)).abs().max() > 1e-3


def test_works_at_bfloat16():
    network = awake(UNet((1, 8, 8), **SMALL))
    x, label = torch.randn(2, 1, 8, 8), torch.tensor([1.0, 900.0])
    expected = network(x, label)
    y = network.bfloat16()(x.bfloat16(), label)
    assert y.dtype == torch.bfloat16
    # eight bits, 4e-3 a rounding, through about 20 layers
    assert (y.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"shape": (8,)}, ["shape=(8,)", "signal", "image", "MLP"]),
        ({"shape": (1, 4, 4, 4)}, ["shape=(1, 4, 4, 4)", "MLP"]),
        ({"shape": (0, 8, 8)}, ["shape=(0, 8, 8)", "at least 1"]),
        ({"shape": (1, 8, 9)}, ["shape=(1, 8, 9)", " 2 ", "fewer multipliers", "pad=True"]),
        ({"shape": (1, 6, 8), "multipliers": (1, 1, 1)}, ["shape=(1, 6, 8)", " 4 "]),
        ({"width": 0}, ["width=0"]),
        ({"width": 9}, ["width=9", "even"]),
        ({"width": 2}, ["width=2", "at least 4"]),
        ({"multipliers": ()}, ["multipliers=()"]),
        ({"multipliers": (1, 0)}, ["multipliers=(1, 0)"]),
        ({"blocks": 0}, ["blocks=0"]),
        ({"heads": 0}, ["heads=0"]),
        ({"heads": 3}, ["heads=3", "16 channels"]),
        ({"groups": 0}, ["groups=0"]),
        ({"dropout": 1.0}, ["dropout=1.0", "[0, 1)"]),
        ({"dropout": -0.1}, ["dropout=-0.1"]),
        ({"dropout": math.nan}, ["dropout=nan"]),
        ({"embedding": "learned"}, ["embedding='learned'", "'sinusoidal'", "'fourier'"]),
        ({"attention": (16, 4, 2)}, ["attention=(16, 4, 2)", "never occur, 16, 2", "give some of 8, 4"]),
        ({"shape": (1, 5, 7), "pad": True, "attention": (7,)}, ["attention=(7,)", "give some of 8, 4"]),
    ],
)
def test_refuses(arguments, said):
    with pytest.raises(InputError) as refusal:
        UNet(**{"shape": (1, 8, 8), **SMALL, **arguments})
    message = str(refusal.value)
    assert all(part in message for part in said), message
    assert "\n" not in message


def test_refuses_samples_of_another_shape():
    network = UNet((1, 8, 8), **SMALL)
    with pytest.raises(InputError, match=r"x of shape \(2, 1, 16, 16\) does not fit .* shape=\(1, 8, 8\)"):
        network(torch.zeros(2, 1, 16, 16), torch.zeros(2))
