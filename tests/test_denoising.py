"""``model.denoise`` and ``model.interpolate`` in data units: against closed forms, and what they refuse."""

import math

import pytest
import torch

from sfumato import Model
from sfumato.core import VP, Cosine, Process
from sfumato.data import LAYOUTS, Affine, DataSpec
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.denoising import noise_level
from sfumato.errors import InputError
from sfumato.interpolation import MODES, great_circle

D, SHIFT, SCALE = 16, 10.0, 2.0


def spec_of(transform: Affine) -> DataSpec:
    return DataSpec(
        LAYOUTS["vector"], (D,), "float32", transform, (), 1.0, 12.0, (), (), 100, "0" * 64, "a Gaussian"
    )  # fmt: skip


ROOT = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(5), dtype=torch.float64))[0]
ROOT = ROOT * torch.logspace(0.3, -1.5, D, dtype=torch.float64)  # a smooth signal's spectrum: some directions are quiet
COVARIANCE = ROOT @ ROOT.T
PROCESS = Process(VP(), Cosine())
DENOISER = ExactDenoiser(PROCESS, GaussianMixture.gaussian(torch.zeros(D).double(), COVARIANCE))
MODEL = Model(DENOISER, spec_of(Affine((SHIFT,), (SCALE,))))


def noisy(seed: int, count: int, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples in data units, without and with noise."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, D, generator=g, dtype=torch.float64) @ ROOT.T * SCALE + SHIFT
    return x, x + sigma * torch.randn(count, D, generator=g, dtype=torch.float64)


def posterior(x: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Wiener's filter in data units, and the covariance that it leaves."""
    covariance = COVARIANCE * SCALE**2
    gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(D))
    return SHIFT + (x - SHIFT) @ gain.T, covariance - gain @ covariance


@pytest.mark.parametrize("sigma", [0.2, 1.5])
def test_the_mean_is_wieners_filter_and_the_draws_have_its_moments(sigma):
    _, y = noisy(0, 3, sigma)
    mean, covariance = posterior(y, sigma)
    found = MODEL.denoise(y, sigma, draws=1500)
    assert torch.allclose(found.mean.double(), mean, atol=1e-4)
    std = covariance.diagonal().sqrt()
    assert found.draws.shape == (3, 1500, D)
    assert ((found.draws.double().mean(1) - mean).abs() < 0.13 * std).all()
    assert ((found.draws.double().std(1) / std - 1).abs() < 0.13).all()


def test_the_noise_is_found_by_its_likelihood():
    """The estimate is the maximum of the closed-form density, on a fine grid, and not far from the truth."""
    for seed, sigma in ((1, 0.1), (2, 0.6), (3, 2.0)):
        _, y = noisy(seed, 4, sigma)
        found = MODEL.denoise(y, None).sigma
        grid = torch.logspace(-3, 1, 2000, dtype=torch.float64)
        eigenvalues, axes = torch.linalg.eigh(COVARIANCE)
        power = ((y - SHIFT) / SCALE @ axes) ** 2
        variance = eigenvalues + grid[:, None, None] ** 2
        likeliest = grid[(-(power / variance + variance.log()) / 2).sum(2).argmax(0)] * SCALE
        clear = likeliest > 0.05  # below, the likelihood is flat, or ends at the finest level
        assert clear.sum() > 2
        assert torch.allclose(found[clear], likeliest[clear], rtol=0.02)
        assert 0.5 < float(found.mean()) / sigma < 1.6


def test_a_sample_without_noise_has_the_finest_level():
    narrow = ExactDenoiser(PROCESS, GaussianMixture.gaussian(torch.zeros(D).double(), torch.eye(D).double()))
    assert noise_level(narrow, torch.full((1, D), 0.5).double()) < 2e-2


def test_a_sample_is_denoised_alone_as_in_a_set():
    _, y = noisy(4, 3, 0.5)
    together, alone = MODEL.denoise(y, 0.5, draws=4, batch=3), MODEL.denoise(y[0], 0.5, draws=4)
    assert torch.allclose(together.draws[0], alone.draws[0], atol=1e-5)
    assert torch.allclose(together.mean[0], alone.mean[0], atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 30.0 * SCALE}, "far above the data"),
        ({"sigma": 0.0}, "no standard deviation"),
        ({"sigma": math.nan}, "no standard deviation"),
        ({"sigma": 1e-9}, "below the finest"),
        ({"x": torch.zeros(2, 5)}, "does not fit"),
        ({"x": torch.full((1, D), math.nan)}, "NaN"),
        ({"draws": -1}, "draws"),
        ({"steps": 0}, "steps"),
    ],
)
def test_what_cannot_be_denoised_is_refused_in_one_line(settings, message):
    given = {"x": torch.zeros(1, D), "sigma": 0.5, **settings}
    with pytest.raises(InputError, match=message) as caught:
        MODEL.denoise(given.pop("x"), **given)
    assert "\n" not in str(caught.value)


def test_features_with_units_of_their_own_have_no_sigma():
    model = Model(DENOISER, spec_of(Affine((0.0,) * D, tuple(float(1 + i) for i in range(D)))))
    with pytest.raises(InputError, match="units of their own"):
        model.denoise(torch.zeros(1, D), 0.5)


@pytest.mark.parametrize("at", [0.3, 1.0])
def test_latent_frames_end_at_both_samples_and_are_as_likely_between(at):
    x, _ = noisy(6, 2, 1.0)
    frames = MODEL.interpolate(x[0], x[1], at=at, frames=5, steps=60)
    assert torch.allclose(frames[[0, -1]].double(), x, atol=0.05)
    again = MODEL.interpolate(x[0], x[1], at=at, frames=5, steps=60, seed=1)
    assert torch.equal(frames, again)


def test_the_flow_of_a_gaussian_mixes_as_its_closed_form_does():
    """At the level of noise alone the latent is C^-1/2 x, and a frame is C^1/2 of the mixture on the great circle."""
    x, _ = noisy(7, 2, 1.0)
    eigenvalues, axes = torch.linalg.eigh(COVARIANCE)
    half = axes * eigenvalues.sqrt() @ axes.T
    latent = (x - SHIFT) / SCALE @ torch.linalg.inv(half)
    expected = great_circle(latent[0], latent[1], torch.tensor([0.5])) @ half * SCALE + SHIFT
    frames = MODEL.interpolate(x[0], x[1], at=1.0, frames=3, steps=200)
    assert torch.allclose(frames[1].double(), expected[0], atol=0.1)


@pytest.mark.parametrize("mode", ["shared", "spherical"])
def test_frames_share_their_noise(mode):
    """Between a sample and itself all frames are equal; two noises would make them differ."""
    x, _ = noisy(8, 2, 1.0)
    same = MODEL.interpolate(x[0], x[0], mode=mode, frames=4)
    assert torch.allclose(same, same[:1].expand_as(same), atol=1e-5)
    assert not torch.allclose(same[0], MODEL.interpolate(x[0], x[0], mode=mode, frames=4, seed=1)[0], atol=1e-2)


def test_the_variance_of_a_shared_frame_is_that_of_its_ends():
    """Frames in the middle of two independent noises would have lost half of the noise's variance before the way back.

    The ends are the data's mean, so the frames are draws of x given alpha E[x] + sigma z with one z.
    """
    centre = torch.full((D,), SHIFT)
    frames = torch.stack(
        [MODEL.interpolate(centre, centre, at=0.9, frames=3, mode="shared", seed=seed, steps=20) for seed in range(60)]
    )
    spread = frames.std(0)
    assert torch.allclose(spread[1], spread[0], atol=1e-4)
    assert torch.allclose(spread[1].double(), (COVARIANCE.diagonal().sqrt() * SCALE), rtol=0.4)


def test_a_great_circle_keeps_the_norm():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 50, generator=g)
    a, b = a / a.norm(), b / b.norm()
    mixed = great_circle(a, b, torch.linspace(0, 1, 5))
    assert torch.allclose(mixed.norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(mixed[0], a, atol=1e-6)
    assert torch.allclose(mixed[4], b, atol=1e-6)
    assert torch.allclose(great_circle(a, 2 * a, torch.tensor([0.5]))[0], 1.5 * a, atol=1e-6)
    assert torch.equal(great_circle(0 * a, 0 * a, torch.tensor([0.5]))[0], 0 * a)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"a": torch.zeros(5)}, "one finite sample"),
        ({"b": torch.full((D,), math.inf)}, "one finite sample"),
        ({"mode": "linear"}, "choose one of latent"),
        ({"at": 0.0}, "no time"),
        ({"at": 500.0}, "no time"),
        ({"frames": 1}, "frames"),
    ],
)
def test_what_has_no_way_between_is_refused_in_one_line(settings, message):
    given = {"a": torch.zeros(D), "b": torch.ones(D), **settings}
    with pytest.raises(InputError, match=message) as caught:
        MODEL.interpolate(given.pop("a"), given.pop("b"), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_make_frames(mode):
    frames = MODEL.interpolate(torch.zeros(D), torch.ones(D), mode=mode, frames=3, steps=4)
    assert frames.shape == (3, D)
    assert frames.isfinite().all()
