"""Stochastic sampling of an exact mixture: the right law, and each sample on its own.

The law is tested by counting: each sample falls into a cell (nearest mode, ring of its distance to it), and the counts
are compared with those of exact draws by a chi-square test of homogeneity. Power is stated, not assumed: the same test
is given samplers with planted faults, must reject each, and from the size of the rejection its chance to do so again
is computed (a non-central chi-square law, whose non-centrality is estimated by statistic - degrees of freedom).
"""

import dataclasses

import pytest
import torch
from scipy import stats

from sfumato.core import VE, VP, Cosine, LinearLogSNR, Logistic, Process, SeededNoise, Straight, Tabulated, linear_betas
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.sampling import ancestral, chain, ddim, run, uniform

COUNT, STD, LEVEL = 4000, 0.25, 1e-3
RINGS = torch.tensor([0.25, 0.5, 0.75, 0.93], dtype=torch.float64)


def mixture() -> GaussianMixture:
    means = torch.tensor([[1.5, 0.0], [-1.0, 1.0], [-0.5, -1.5]], dtype=torch.float64)
    return GaussianMixture.isotropic(means, STD, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))


def cells(x: torch.Tensor) -> torch.Tensor:
    """Counts of mode x ring; (distance / STD)^2 has two degrees of freedom, so its law is 1 - exp(-d / 2)."""
    distance, mode = torch.cdist(x, mixture().means).min(1)
    ring = torch.bucketize(1 - torch.exp(-0.5 * (distance / STD) ** 2), RINGS)
    return torch.bincount(mode * (len(RINGS) + 1) + ring, minlength=3 * (len(RINGS) + 1))


def homogeneity(x: torch.Tensor) -> tuple[float, float, int]:
    """(statistic, p-value, degrees of freedom) of samples against exact draws."""
    exact = mixture().sample(20 * COUNT, torch.Generator().manual_seed(1))
    return stats.chi2_contingency(torch.stack((cells(x), cells(exact))).numpy(), correction=False)[:3]


CHAIN = Process(VP(), Tabulated(linear_betas(1000)))


def sampled(tableau, denoiser=None) -> torch.Tensor:
    """A thousand steps; the noise from a generator, which is faster than seeded noise and as good here."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(COUNT, 2, generator=generator, dtype=torch.float64)
    return run(
        denoiser or ExactDenoiser(CHAIN, mixture()),
        tableau,
        x,
        noise=lambda draw, like: torch.randn(like.shape, generator=generator, dtype=like.dtype),
    )


@pytest.fixture(scope="module")
def table():
    return ancestral(CHAIN, chain(1000, 1000))


def test_a_thousand_ancestral_steps_sample_the_mixture(table):
    assert homogeneity(sampled(table))[1] > LEVEL


FAULTS = {
    "noise variance 20 % up": lambda table: dataclasses.replace(table, noise=table.noise * 1.2**0.5),
    "a root dropped": lambda table: dataclasses.replace(table, noise=table.noise**2),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_the_test_has_the_power_to_see_a_faulty_sampler(table, fault):
    statistic, p_value, freedom = homogeneity(sampled(fault(table)))
    assert p_value < 1e-5
    critical = stats.chi2.isf(LEVEL, freedom)
    assert stats.ncx2.sf(critical, freedom, statistic - freedom) > 0.99


def test_the_test_has_the_power_to_see_wrong_weights():
    x = mixture().sample(COUNT, torch.Generator().manual_seed(2))
    assert homogeneity(x)[1] > LEVEL
    wrong = GaussianMixture(
        torch.tensor([0.45, 0.35, 0.2], dtype=torch.float64), mixture().means, mixture().covariances
    )
    assert homogeneity(wrong.sample(COUNT, torch.Generator().manual_seed(2)))[1] < LEVEL


@pytest.mark.parametrize("start", [Process(Straight(), Logistic()), Process(VE(), LinearLogSNR(-9.0, 9.0))])
def test_other_processes_sample_the_mixture_too(start):
    generator = torch.Generator().manual_seed(4)
    x = start.level(1.0).sigma * torch.randn(COUNT, 2, generator=generator, dtype=torch.float64)
    got = run(
        ExactDenoiser(start, mixture()),
        ddim(start, uniform(250), 0.5),
        x,
        noise=lambda draw, like: torch.randn(like.shape, generator=generator, dtype=like.dtype),
    )
    assert homogeneity(got)[1] > LEVEL


@pytest.mark.parametrize(
    ("process", "sampler"),
    [
        (Process(VP(), Cosine()), ancestral),
        (Process(VE(), LinearLogSNR(-8.0, 8.0)), lambda process, times: ancestral(process, times, "beta")),
        (Process(Straight(), Logistic()), lambda process, times: ddim(process, times, 0.5)),
    ],
    ids=["VP", "VE", "straight"],
)
def test_a_sample_does_not_depend_on_the_batch_it_is_drawn_in(process, sampler):
    denoiser, tableau = ExactDenoiser(process, mixture()), sampler(process, uniform(8))

    def samples(first: int, count: int) -> torch.Tensor:
        noise = SeededNoise.samples(9, count, first)
        x = process.prior().sample(noise(0, torch.zeros(count, 2, dtype=torch.float64)))
        return run(denoiser, tableau, x, noise=noise)

    whole = samples(0, 64)
    sevens = torch.cat([samples(first, min(7, 64 - first)) for first in range(0, 64, 7)])
    alone = torch.cat([samples(first, 1) for first in range(64)])
    torch.testing.assert_close(sevens, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-12)
    assert len(whole.unique(dim=0)) == 64
