"""Scores of unlikeness, against other routes to the same numbers."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from sfumato import data
from sfumato.core import VP, Cosine, Process
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.evaluation.out_of_distribution import NORM_LEVELS, Reference, auroc, compressed_bits, score_norms


def test_auroc_is_scikit_learns_and_counts_ties_half():
    generator = torch.Generator().manual_seed(0)
    this = (torch.randn(200, generator=generator) * 3).round().double()  # many ties
    other = (torch.randn(150, generator=generator) * 3 + 1.5).round().double()
    labels = np.r_[np.zeros(200), np.ones(150)]
    expected = roc_auc_score(labels, torch.cat([this, other]).numpy())
    assert auroc(this, other).value == pytest.approx(expected, abs=1e-12)
    assert auroc(this, this).value == 0.5


def test_aurocs_error_is_what_repetition_shows():
    generator = torch.Generator().manual_seed(1)
    trials = [
        auroc(torch.randn(60, generator=generator).double(), torch.randn(40, generator=generator).double() + 0.8)
        for _ in range(400)
    ]
    spread = np.std([trial.value for trial in trials])
    # Of 400 trials the spread is known to 3.5 %; the claimed errors' mean is steadier.
    assert np.mean([trial.error for trial in trials]) == pytest.approx(spread, rel=0.15)


def test_compression_finds_what_is_simple():
    spec = data.load("digits").spec
    generator = torch.Generator().manual_seed(0)
    flat = torch.full((1, 1, 8, 8), 7.0)
    noise = torch.randint(0, 17, (1, 1, 8, 8), generator=generator).double()
    bits = compressed_bits(torch.cat([flat, noise]), spec)
    assert bits[0] < 2 < 4 < bits[1]
    continuous = dataclasses.replace(spec, transform=dataclasses.replace(spec.transform, levels=None))
    assert compressed_bits(flat, continuous) is None


@pytest.mark.parametrize(("levels", "high"), [(2, 1.0), (256, 255.0), (65536, 65535.0), (100_000, 99_999.0)])
def test_any_number_of_levels_is_compressed(levels, high):
    spec = dataclasses.replace(data.load("digits").spec, transform=data.Affine((0.0,), (1.0,), 0.0, high, levels))
    x = torch.randint(0, levels, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    bits = compressed_bits(x, spec)
    assert (bits > 0.9 * math.log2(levels)).all()  # noise: no compressor is below its entropy by much


def test_score_norms_are_the_norms_of_the_exact_score():
    process = Process(VP(), Cosine())
    gaussian = GaussianMixture.gaussian(torch.tensor([0.4, -0.2]).double(), 0.25 * torch.eye(2).double())
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    norms = score_norms(ExactDenoiser(process, gaussian), x, batch=2)
    assert norms.shape == (5, NORM_LEVELS)
    logsnr = torch.linspace(8, -4, NORM_LEVELS, dtype=torch.float64)
    level = process.scaling.at(logsnr)
    # eps-hat = sigma (x_t - alpha m) / (alpha^2 s^2 + sigma^2) at x_t = alpha x
    away = (x - torch.tensor([0.4, -0.2])).norm(dim=1)[:, None]
    expected = torch.log(level.sigma * level.alpha * away / (0.25 * level.alpha**2 + level.sigma**2))
    torch.testing.assert_close(norms, expected, rtol=0, atol=1e-8)


def test_the_reference_measures_distance_in_its_own_deviations():
    generator = torch.Generator().manual_seed(0)
    norms = torch.randn(4000, 3, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 10.0, 0.1])
    reference = Reference(bits=torch.tensor([2.0, 4.0]), norms=norms)
    distance = reference.norm_distance(torch.tensor([[3.0, 0, 0], [0, 30.0, 0], [0, 0, 0.3]]).double())
    torch.testing.assert_close(distance, torch.full((3,), 3.0).double(), rtol=0.1, atol=0)
    assert reference.typicality(torch.tensor([3.0, 1.0])).tolist() == [0.0, 2.0]
