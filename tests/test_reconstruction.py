"""``model.reconstruct`` in data units: against closed forms, its bands, and what it refuses."""

import pytest
import torch

from sfumato import Model
from sfumato.core import VP, Cosine, Process
from sfumato.data import LAYOUTS, Affine, DataSpec
from sfumato.denoisers import Clamped, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.reconstruction import METHODS

SHIFT, SCALE = torch.tensor([10.0, -5.0, 0.0]), torch.tensor([2.0, 0.5, 1.0])
ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.5, 0.3, 0.6]])
SPEC = DataSpec(
    LAYOUTS["vector"], (3,), "float32", Affine(tuple(SHIFT.tolist()), tuple(SCALE.tolist())), (), 1.0, 8.0, (), (), 100,
    "0" * 64, "a Gaussian",
)  # fmt: skip
MODEL = Model(
    ExactDenoiser(Process(VP(), Cosine()), GaussianMixture.gaussian(torch.zeros(3).double(), (ROOT @ ROOT.T).double())),
    SPEC,
)
MATRIX = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
NOISE = torch.tensor([0.3, 0.2])


def truth(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples in data units, and their readings."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, generator=g) @ ROOT.T * SCALE + SHIFT
    return x, x @ MATRIX.T + NOISE * torch.randn(count, 2, generator=g)


def closed_form(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of x given y, in data units."""
    covariance = (ROOT * SCALE[:, None]) @ (ROOT * SCALE[:, None]).T
    gain = covariance @ MATRIX.T @ torch.linalg.inv(MATRIX @ covariance @ MATRIX.T + torch.diag(NOISE**2))
    return SHIFT + (y - SHIFT @ MATRIX.T) @ gain.T, covariance - gain @ MATRIX @ covariance


@pytest.mark.parametrize("method", ["annealed", "mmps"])
def test_draws_in_data_units_have_the_moments_of_the_closed_form(method):
    _, y = truth(0, 2)
    found = MODEL.reconstruct(
        y, MATRIX, noise=NOISE, draws=1024, method=method, steps=20 if method == "annealed" else 100
    )
    mean, covariance = closed_form(y)
    std = covariance.diagonal().sqrt()
    assert found.draws.shape == (2, 1024, 3)
    assert ((found.mean - mean).abs() < 0.12 * std).all()
    assert ((found.std / std - 1).abs() < 0.12).all()
    assert torch.allclose(found.draws.mean(1), found.mean)


def test_bands_cover_and_the_residual_is_that_of_the_noise():
    x, y = truth(1, 40)
    found = MODEL.reconstruct(y, MATRIX, noise=NOISE, draws=99, particles=99, steps=8)
    low, high = found.band(0.8)
    assert 0.68 < float(((low <= x) & (x <= high)).float().mean()) < 0.9  # 120 numbers, correlated
    assert 0.8 < float(found.residual.mean()) < 1.3
    assert 0.3 < float(found.p_value.mean()) < 0.7


def test_a_measurement_is_reconstructed_alone_as_in_a_set():
    _, y = truth(2, 3)
    for method in METHODS:
        settings = {"method": method, "draws": 4, "steps": 5, "noise": NOISE}
        together, first = (MODEL.reconstruct(readings, MATRIX, **settings) for readings in (y, y[0]))
        assert torch.allclose(together.draws[0], first.draws[0], atol=1e-5)


def test_what_the_model_cannot_explain_has_a_small_p_value_and_less_evidence():
    _, y = truth(3, 1)
    strange = torch.cat((y, y + torch.tensor([[30.0, -30.0]])))
    found = MODEL.reconstruct(strange, MATRIX, noise=NOISE, draws=64)
    assert found.log_evidence[1] < found.log_evidence[0] - 20
    assert found.p_value[1] < 1e-3 < found.p_value[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"y": torch.zeros(2, 5)}, "does not fit the operator"),
        ({"y": torch.full((1, 2), float("nan"))}, "NaN"),
        ({"noise": 300.0}, "data's units"),
        ({"noise": torch.ones(2, 2)}, "one per reading"),
        ({"noise": "3 apples"}, "25dB"),
        ({"noise": 0.0}, "more than 0"),
        ({"operator": torch.ones(2, 5)}, "does not act on samples"),
        ({"method": "best"}, "is not known"),
        ({"method": "mmps", "operator": lambda x: x[:, :2].abs()}, "not linear"),
        ({"method": "annealed", "operator": lambda x: x[:, :2].abs()}, "not linear"),
        ({"draws": 0}, "draws"),
        ({"particles": 3}, "fewer than 64 draws"),
    ],
)
def test_bad_input_is_refused_in_one_line(settings, message):
    given = {"y": torch.zeros(1, 2), "operator": MATRIX, "noise": NOISE, **settings}
    with pytest.raises(InputError, match=message) as caught:
        MODEL.reconstruct(given.pop("y"), given.pop("operator"), **given)
    assert "\n" not in str(caught.value)


def test_each_measurement_can_have_noise_of_its_own():
    _, y = truth(5, 2)
    own = torch.stack((NOISE, 4 * NOISE))
    for method in ("annealed", "mmps"):
        settings = {"method": method, "draws": 8, "steps": 5}
        together = MODEL.reconstruct(y, MATRIX, noise=own, **settings)
        assert torch.equal(together.noise, own.double())
        for i, key in enumerate(("first", "second")):
            alone = MODEL.reconstruct(y[i], MATRIX, noise=own[i], seed=0, **settings)
            if key == "first":  # the second has another key of its random numbers
                assert torch.allclose(together.draws[0], alone.draws[0], atol=1e-5)
    assert together.std[1].mean() > together.std[0].mean()


def test_noise_is_known_by_its_ratio_or_by_photons():
    x, y = truth(6, 3)
    found = MODEL.reconstruct(y, MATRIX, noise="20dB", draws=4, particles=8, steps=4)
    assert torch.allclose(found.noise[:, 0], (y.double().pow(2).mean(1) / 101).sqrt())
    expected = (x @ MATRIX.T).double()
    found = MODEL.reconstruct(y, MATRIX, noise="photons:0.02:0.1", draws=64, particles=64, steps=8)
    assert torch.allclose(found.noise, (0.02 * expected.clamp(min=0.02) + 0.01).sqrt(), rtol=0.3)


def test_unknown_noise_is_estimated():
    x, _ = truth(7, 4)
    matrix = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    y = x @ matrix.T + 0.5 * torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    found = MODEL.reconstruct(y, matrix, noise="auto", draws=4, particles=8, steps=4)
    assert float(found.noise[0, 0]) == pytest.approx(0.5, rel=0.4)
    with pytest.raises(InputError, match="linear operators alone"):
        MODEL.reconstruct(y[:, :2], lambda x: x[:, :2].abs(), noise="auto")


def test_a_band_needs_a_probability():
    _, y = truth(4, 1)
    with pytest.raises(InputError, match="no probability"):
        MODEL.reconstruct(y, MATRIX, noise=NOISE, draws=8, particles=8, steps=4).band(90.0)


def test_the_exact_method_gives_the_moments_of_the_closed_form_in_data_units():
    _, y = truth(4, 3)
    found = MODEL.reconstruct(y, MATRIX, noise=NOISE, draws=2000, method="exact")
    mean, covariance = closed_form(y)
    std = covariance.diagonal().sqrt()
    assert torch.allclose(found.mean.double(), mean.double(), atol=1e-4)
    assert torch.allclose(found.std.double(), std.double().expand(3, 3), atol=1e-4)
    assert ((found.draws.mean(1) - mean).abs() < 0.1 * std).all()
    annealed = MODEL.reconstruct(y, MATRIX, noise=NOISE, method="annealed", particles=2048, steps=40)
    assert ((found.log_evidence - annealed.log_evidence).abs() < 0.2).all()


def test_the_exact_method_refuses_a_model_that_is_no_mixture():
    other = Model(Clamped(MODEL.denoiser, -9.0, 9.0), SPEC)
    with pytest.raises(InputError, match="exact is for a model that is a mixture"):
        other.reconstruct(truth(5, 1)[1], MATRIX, noise=NOISE, method="exact")
