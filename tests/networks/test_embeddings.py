import math

import pytest
import torch

from sfumato.errors import InputError
from sfumato.networks.embeddings import Fourier, LabelEmbedding, Sinusoidal

LABELS = [0.0, 0.5, 3.0, -7.25, 999.0]


@pytest.mark.parametrize(("dim", "max_period"), [(4, 10_000.0), (10, 50.0), (128, 10_000.0)])
def test_sinusoidal_is_the_written_formula(dim, max_period):
    half = dim // 2
    frequencies = [math.exp(-math.log(max_period) * i / (half - 1)) for i in range(half)]
    expected = [[math.sin(f * t) for f in frequencies] + [math.cos(f * t) for f in frequencies] for t in LABELS]
    expected = torch.tensor(expected, dtype=torch.float64)
    module = Sinusoidal(dim, max_period)

    # float64: angles up to 999 with a few roundings of 1.1e-16 each
    assert (module(torch.tensor(LABELS, dtype=torch.float64)) - expected).abs().max() < 1e-11
    # float32: 6e-5 from rounding the angle 999, 4e-5 from the rounded exponent of its frequency
    single = module(torch.tensor(LABELS))
    assert single.dtype == torch.float32
    assert (single.double() - expected).abs().max() < 2e-4


def test_fourier_is_the_written_formula():
    module = Fourier(6, scale=2.0)
    frequencies = module.frequencies.tolist()
    expected = [
        [math.sin(2 * math.pi * f * t) for f in frequencies] + [math.cos(2 * math.pi * f * t) for f in frequencies]
        for t in LABELS
    ]
    # angles up to 2 pi 999 * 6, rounded to 1e-16 of themselves a few times
    got = module(torch.tensor(LABELS, dtype=torch.float64))
    assert (got - torch.tensor(expected, dtype=torch.float64)).abs().max() < 1e-10


def test_fourier_frequencies_are_normal_with_the_given_scale():
    torch.manual_seed(0)
    n = 20_000
    drawn = Fourier(2 * n, scale=3.0).frequencies / 3.0
    # moments 0, 1, 3 of a standard normal; standard errors sqrt(1/n), sqrt(2/n), sqrt(96/n); five of each
    for power, moment, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (4, 3.0, 96.0)):
        assert abs(float(drawn.double().pow(power).mean()) - moment) < 5 * math.sqrt(variance / n)


def test_fourier_frequencies_travel_with_the_weights_and_are_not_trained():
    one, two = Fourier(16), Fourier(16)
    label = torch.linspace(-2, 2, 5)
    assert not torch.equal(one(label), two(label))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(label), two(label))
    assert list(one.parameters()) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("module", [Sinusoidal(64), Fourier(64, scale=4.0)])
def test_angles_do_not_lose_precision_at_half_precision(module, dtype):
    label = torch.tensor([0.3, -2.7, 851.3])
    before = module(label)
    after = module.to(dtype)(label)
    module.float()
    assert after.dtype == torch.float32
    # float16 holds numbers below 2^-14 to 2^-25 only: 3e-8 * 2 pi * 851 in the angle, and nothing in bfloat16
    assert (after - before).abs().max() <= (2e-4 if dtype == torch.float16 else 0.0)
    assert module(torch.tensor([512.0], dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Sinusoidal(7), "dim=7"),
        (lambda: Sinusoidal(2), "at least 4"),
        (lambda: Sinusoidal(8, max_period=0.0), "max_period=0.0"),
        (lambda: Fourier(5), "dim=5"),
        (lambda: Fourier(0), "dim=0"),
        (lambda: Fourier(8, scale=-1.0), "scale=-1.0"),
        (lambda: Fourier(8, scale=math.inf), "scale=inf"),
        (lambda: LabelEmbedding("random", 8, 8), "embedding='random'"),
        (lambda: LabelEmbedding("fourier", 8, 8, conditions=-1), "conditions=-1 is not allowed: give an integer of at"),
        (lambda: LabelEmbedding("fourier", 8, 8, conditions=True), "conditions: True is not a whole number"),
    ],
)
def test_refuses(make, said):
    with pytest.raises(InputError) as refusal:
        make()
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("cond", [None, [0.5, -2.0, 1.25]])
def test_label_embedding_is_two_layers_with_silus(cond):
    torch.manual_seed(0)
    module = LabelEmbedding("sinusoidal", 8, 5, conditions=3).double()
    label = torch.tensor([12.0], dtype=torch.float64)
    x = Sinusoidal(8)(label)[0].tolist()
    if cond is not None:
        told = [sum(w * c for w, c in zip(row, cond, strict=True)) for row in module.condition.weight.tolist()]
        x = [a + b for a, b in zip(x, told, strict=True)]
    for layer in (module.linear1, module.linear2):
        torch.nn.init.normal_(layer.bias)
        z = [sum(w * v for w, v in zip(row, x, strict=True)) for row in layer.weight.tolist()]
        z = [a + b for a, b in zip(z, layer.bias.tolist(), strict=True)]
        x = [a / (1.0 + math.exp(-a)) for a in z]
    got = module(label, None if cond is None else torch.tensor([cond]))
    assert torch.allclose(got[0], torch.tensor(x, dtype=torch.float64), rtol=0, atol=1e-14)


def test_without_conditions_nothing_is_added_to_the_weights():
    assert list(LabelEmbedding("sinusoidal", 8, 5).state_dict()) == [
        f"linear{i}.{name}" for i in (1, 2) for name in ("weight", "bias")
    ]
    more = LabelEmbedding("sinusoidal", 8, 5, conditions=3).state_dict()
    assert next(iter(more)) == "condition.weight"  # in the order of execution
    assert more["condition.weight"].shape == (8, 3)


@pytest.mark.parametrize(
    ("conditions", "shape", "said"),
    [
        (0, (2, 3), r"cond of shape \(2, 3\) was given to a network of conditions=0: leave cond out"),
        (0, (2, 0), "conditions=0"),
        (3, (2, 4), r"cond of shape \(2, 4\) does not fit 2 samples of conditions=3: give cond of shape \(2, 3\)"),
        (3, (1, 3), "does not fit 2 samples"),  # not spread over the batch in silence
    ],
)
def test_refuses_conditions_that_do_not_fit(conditions, shape, said):
    with pytest.raises(InputError, match=said):
        LabelEmbedding("fourier", 8, 5, conditions)(torch.zeros(2), torch.zeros(shape))


def test_label_embedding_has_the_type_of_its_weights():
    label = torch.tensor([12.0], dtype=torch.float64)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        module = LabelEmbedding("fourier", 8, 5, conditions=2).to(dtype)
        assert module(label).dtype == dtype
        assert module(label, torch.ones(1, 2)).dtype == dtype
