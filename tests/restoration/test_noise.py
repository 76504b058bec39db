"""What is known of noise, as numbers and as text, and the likeliest one."""

import math

import pytest
import torch

from sfumato.errors import InputError
from sfumato.restoration import UNKNOWN, Decibels, Photons, likeliest, read_noise


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0.01", 0.01),
        ("25dB", Decibels(25.0)),
        ("-3 db", Decibels(-3.0)),
        ("photons:0.02", Photons(0.02)),
        ("photons:0.02:0.1", Photons(0.02, 0.1)),
        ("auto", UNKNOWN),
    ],
)
def test_text_means_noise(text, meant):
    assert read_noise(text) == meant


@pytest.mark.parametrize("text", ["much", "xdB", "photons:", "photons:0", "photons:1:-1", "photons:1:2:3", "infdB", ""])
def test_other_text_is_refused_in_one_line(text):
    with pytest.raises(InputError, match="noise: ") as caught:
        read_noise(text)
    assert "\n" not in str(caught.value)


def test_a_ratio_is_that_of_the_signal_without_its_noise():
    g = torch.Generator().manual_seed(0)
    signal = 3 * torch.randn(2, 50_000, generator=g).double()
    y = signal * torch.tensor([[1.0], [10.0]]) + torch.tensor([[1.5], [15.0]]) * torch.randn(2, 50_000, generator=g)
    found = Decibels(10 * math.log10(9 / 1.5**2)).deviation(y)
    assert found.shape == y.shape
    assert torch.allclose(found[:, 0], torch.tensor([1.5, 15.0]).double(), rtol=0.02)


def test_the_deviation_of_photons_is_that_of_simulated_ones():
    g, expected = torch.Generator().manual_seed(0), torch.tensor([0.5, 2.0, 8.0])
    photons = Photons(gain=0.05, read=0.3)
    counts = torch.poisson((expected / photons.gain).expand(100_000, 3), generator=g)
    y = photons.gain * counts + photons.read * torch.randn(100_000, 3, generator=g)
    assert torch.allclose(photons.deviation(expected), y.std(0), rtol=0.02)
    assert photons.deviation(torch.tensor([-1.0])) > photons.read  # never below one photon


@pytest.mark.parametrize("best", [0.02, 0.3, 5.0])
def test_the_likeliest_noise_is_the_peak(best):
    asked = []

    def peaked(noise: float) -> float:
        asked.append(noise)
        return -(math.log(noise / best) ** 2)

    assert likeliest(peaked, 0.01, 10.0, evaluations=12) == pytest.approx(best, rel=0.05)
    assert len(asked) == 12
