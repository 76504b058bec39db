"""Noise of a sample is a function of its seed and the draw: never of its neighbours."""

import torch

from sfumato.core import SeededNoise


def test_seeded_noise_of_a_sample_is_its_own():
    like = torch.zeros(10, 2, 3, dtype=torch.float64)
    noise = SeededNoise.samples(4, 10)
    whole = noise(2, like)
    assert whole.shape == like.shape
    assert whole.dtype == torch.float64
    assert torch.equal(SeededNoise.samples(4, 4, first=2)(2, like[:4]), whole[2:6])
    assert torch.equal(noise(2, like.float()), whole.float())
    assert not (noise(3, like) == whole).any()
    assert not (SeededNoise.samples(5, 10)(2, like) == whole).any()


def test_seeded_noise_of_an_empty_batch_is_empty():
    assert SeededNoise.samples(0, 0)(0, torch.zeros(0, 3)).shape == (0, 3)
