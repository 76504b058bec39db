"""Isotropic Gaussians against torch.distributions."""

import torch
from torch.distributions import Independent, Normal, kl_divergence

from sfumato.core import Gaussian


def draws(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def peer(gaussian: Gaussian) -> Independent:
    scale = gaussian.variance.sqrt().expand_as(gaussian.mean)
    return Independent(Normal(gaussian.mean, scale), gaussian.mean.ndim - 1)


def pair() -> tuple[Gaussian, Gaussian]:
    """One variance for the batch, and one a sample, of image-shaped batches."""
    one = torch.tensor(0.3, dtype=torch.float64)
    each = torch.tensor([0.5, 2.0, 1e-4], dtype=torch.float64).reshape(3, 1, 1, 1)
    return Gaussian(draws(3, 2, 4, 5), one), Gaussian(draws(3, 2, 4, 6)[..., :5], each)


def test_log_prob_of_a_batch_of_images():
    for gaussian in pair():
        x = draws(3, 2, 4, 7)[..., :5]
        torch.testing.assert_close(gaussian.log_prob(x), peer(gaussian).log_prob(x), rtol=1e-12, atol=0)


def test_kl_both_ways():
    p, q = pair()
    zero = torch.zeros((), dtype=torch.float64)
    for a, b in ((p, q), (q, p), (q, Gaussian(zero, zero + 1.5))):
        expected = kl_divergence(peer(a), peer(Gaussian(b.mean.expand_as(a.mean), b.variance)))
        torch.testing.assert_close(a.kl(b), expected, rtol=1e-12, atol=0)
    assert p.kl(p).tolist() == [0, 0, 0]


def test_sample_is_the_location_and_scale_of_its_noise():
    for gaussian in pair():
        noise = draws(3, 2, 4, 5)
        x = gaussian.sample(noise)
        torch.testing.assert_close((x - gaussian.mean) ** 2, gaussian.variance * noise**2, rtol=1e-9, atol=1e-14)
        assert ((x > gaussian.mean) == (noise > 0)).all()
