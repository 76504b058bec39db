"""The exact denoisers against torch.distributions, Tweedie's formula, conditioning and brute-force integration."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from sfumato.core import VE, VP, Cosine, LinearLogSNR, Logistic, Process, Straight
from sfumato.denoisers import NOT_GIVEN, Condition, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError

PROCESSES = [Process(VP(), Cosine()), Process(VE(), LinearLogSNR(-8.0, 8.0)), Process(Straight(), Logistic())]
TIMES = [0.02, 0.3, 0.7, 0.99]
each_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p.scaling).__name__)


def random_mixture(K: int = 3, D: int = 3, seed: int = 0) -> GaussianMixture:
    generator = torch.Generator().manual_seed(seed)
    means = 2 * torch.randn(K, D, generator=generator, dtype=torch.float64)
    root = torch.randn(K, D, D, generator=generator, dtype=torch.float64) / 2
    weights = torch.rand(K, generator=generator, dtype=torch.float64) + 0.2
    return GaussianMixture(weights / weights.sum(), means, root @ root.mT)


def points(*shape: int, seed: int = 1) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def peer(mixture: GaussianMixture, level) -> MixtureSameFamily:
    """The marginal at a level, from its definition."""
    alpha, sigma = level.alpha, level.sigma
    covariances = alpha**2 * mixture.covariances + sigma**2 * torch.eye(mixture.means.shape[1], dtype=torch.float64)
    return MixtureSameFamily(
        Categorical(mixture.weights), MultivariateNormal(alpha * mixture.means, covariance_matrix=covariances)
    )


@each_process
def test_log_prob_at_a_level_is_the_mixture_of_the_noised_components(process):
    mixture, x = random_mixture(), points(7, 3)
    for t in TIMES:
        level = process.level(t)
        x_t = x * torch.hypot(level.alpha, level.sigma)
        # Whitening by eigenvectors here, by a Cholesky factor there, of conditions up to 1e4.
        torch.testing.assert_close(
            mixture.log_prob(x_t, level), peer(mixture, level).log_prob(x_t), rtol=1e-10, atol=1e-10
        )


def test_log_prob_of_clean_data():
    mixture, x = random_mixture(), points(7, 3)
    expected = MixtureSameFamily(
        Categorical(mixture.weights), MultivariateNormal(mixture.means, covariance_matrix=mixture.covariances)
    ).log_prob(x)
    torch.testing.assert_close(mixture.log_prob(x), expected, rtol=1e-9, atol=1e-9)


@each_process
def test_predict_is_tweedies_formula(process):
    mixture, x = random_mixture(), points(5, 3)
    for t in TIMES:
        level = process.level(t)
        x_t = (x * torch.hypot(level.alpha, level.sigma)).requires_grad_()
        (score,) = torch.autograd.grad(peer(mixture, level).log_prob(x_t).sum(), x_t)
        x_t = x_t.detach()
        prediction = mixture.predict(x_t, level)
        torch.testing.assert_close(prediction.eps, -level.sigma * score, rtol=1e-9, atol=1e-9)
        # sigma^2 score is added to x_t and the sum divided by alpha: 1 / alpha of what was lost.
        slack = 1e-9 / float(level.alpha.clamp(max=1))
        torch.testing.assert_close(prediction.x_0, (x_t + level.sigma**2 * score) / level.alpha, rtol=1e-9, atol=slack)


@each_process
def test_equal_spheres_are_a_mixture_like_any_other(process):
    g = torch.Generator().manual_seed(2)
    means, weights = 2 * torch.randn(5, 4, generator=g).double(), torch.tensor([0.1, 0.3, 0.2, 0.15, 0.25]).double()
    spheres = GaussianMixture.isotropic(means, 0.4, weights)
    # As good as a sphere, but not to the mixture: the general way.
    uneven = torch.diag(torch.tensor([1.0, 1.0, 1.0, 1 + 1e-12]).double()) * 0.16
    general = GaussianMixture(weights, means, uneven.expand(5, 4, 4))
    possible = torch.tensor([[True, False, True, True, False]]).expand(7, 5)
    for t in (torch.tensor(0.0), *map(torch.tensor, TIMES), torch.linspace(0.05, 0.9, 7)):
        x, level = points(7, 4), process.level(t.double())
        for within in (None, possible):
            a, b = spheres.predict(x, level, within), general.predict(x, level, within)
            assert torch.allclose(a.x_0, b.x_0, rtol=1e-9, atol=1e-9)
            assert torch.allclose(a.eps, b.eps, rtol=1e-9, atol=1e-9)


@each_process
def test_both_beliefs_agree_with_the_sample(process):
    mixture, x_t = random_mixture(), points(5, 3)
    for t in [*TIMES, 1.0]:
        level = process.level(t)
        prediction = mixture.predict(x_t, level)
        back = level.alpha * prediction.x_0 + level.sigma * prediction.eps
        torch.testing.assert_close(back, x_t, rtol=1e-12, atol=1e-12)


@each_process
def test_predict_is_gaussian_conditioning(process):
    mixture = random_mixture(K=1)
    mean, covariance, x_t = mixture.means[0], mixture.covariances[0], points(4, 3)
    for t in TIMES:
        level = process.level(t)
        total = level.alpha**2 * covariance + level.sigma**2 * torch.eye(3, dtype=torch.float64)
        gain = torch.linalg.solve(total, level.alpha * covariance).mT
        expected = mean + (x_t - level.alpha * mean) @ gain.mT
        torch.testing.assert_close(mixture.predict(x_t, level).x_0, expected, rtol=1e-10, atol=1e-10)


@each_process
def test_predict_is_the_posterior_mean_by_brute_force_in_one_dimension(process):
    mixture = GaussianMixture(
        torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [0.8]]), torch.tensor([[[0.09]], [[0.01]]])
    )
    # Trapezia converge geometrically for such integrands: 40 points in the narrowest standard deviation.
    grid = torch.linspace(-4, 4, 12_801, dtype=torch.float64)
    prior = sum(
        w * torch.exp(-0.5 * (grid - m) ** 2 / v) / math.sqrt(v) for w, m, v in ((0.3, -1.0, 0.09), (0.7, 0.8, 0.01))
    )
    x = torch.tensor([[-1.3], [0.1], [0.7]], dtype=torch.float64)
    for t in (0.2, 0.5, 0.9):
        level = process.level(t)
        x_t = x * torch.hypot(level.alpha, level.sigma)
        density = prior * torch.exp(-0.5 * ((x_t - level.alpha * grid) / level.sigma) ** 2)
        expected = (density * grid).sum(1) / density.sum(1)
        torch.testing.assert_close(mixture.predict(x_t, level).x_0[:, 0], expected, rtol=1e-6, atol=1e-6)


def test_predict_is_the_posterior_mean_by_brute_force_in_two_dimensions():
    mixture, level = random_mixture(K=2, D=2, seed=3), PROCESSES[0].level(0.5)
    axis = torch.linspace(-9, 9, 361, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    prior = MixtureSameFamily(
        Categorical(mixture.weights), MultivariateNormal(mixture.means, covariance_matrix=mixture.covariances)
    ).log_prob(grid)
    x_t = points(3, 2)
    log_density = prior - 0.5 * torch.cdist(x_t, level.alpha * grid) ** 2 / level.sigma**2
    expected = log_density.softmax(1) @ grid
    torch.testing.assert_close(mixture.predict(x_t, level).x_0, expected, rtol=1e-6, atol=1e-6)


@each_process
def test_a_level_for_each_sample(process):
    mixture, x_t = random_mixture(), points(4, 3)
    t = torch.tensor(TIMES, dtype=torch.float64)
    level = process.level(t)
    whole, density = mixture.predict(x_t, level), mixture.log_prob(x_t, level)
    for i in range(4):
        own = process.level(t[i])
        alone = mixture.predict(x_t[i : i + 1], own)
        torch.testing.assert_close(whole.x_0[i], alone.x_0[0], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(whole.eps[i], alone.eps[0], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(density[i], mixture.log_prob(x_t[i : i + 1], own)[0], rtol=1e-13, atol=1e-13)


def test_a_point_is_known_whatever_is_seen():
    mean = torch.tensor([0.4, -1.0], dtype=torch.float64)
    mixture = GaussianMixture.gaussian(mean, torch.zeros(2, 2, dtype=torch.float64))
    level, x_t = PROCESSES[0].level(0.6), points(3, 2)
    prediction = mixture.predict(x_t, level)
    torch.testing.assert_close(prediction.x_0, mean.expand(3, 2), rtol=0, atol=0)
    torch.testing.assert_close(prediction.eps, (x_t - level.alpha * mean) / level.sigma, rtol=1e-14, atol=1e-14)


def test_a_finite_set_of_points_has_softmax_weights():
    atoms = points(5, 2, seed=4)
    mixture, level, x_t = GaussianMixture.isotropic(atoms, 0.0), PROCESSES[0].level(0.3), points(3, 2)
    weights = (-0.5 * torch.cdist(x_t, level.alpha * atoms) ** 2 / level.sigma**2).softmax(1)
    torch.testing.assert_close(mixture.predict(x_t, level).x_0, weights @ atoms, rtol=1e-10, atol=1e-10)


def test_a_flat_covariance_leaves_its_plane_alone():
    # Data on a line in the plane: across it everything is noise.
    direction = torch.tensor([0.6, 0.8], dtype=torch.float64)
    mixture = GaussianMixture.gaussian(torch.zeros(2, dtype=torch.float64), torch.outer(direction, direction))
    level, x_t = PROCESSES[0].level(0.4), points(4, 2)
    along = (x_t @ direction)[:, None] * direction
    expected = level.alpha / (level.alpha**2 + level.sigma**2) * along
    prediction = mixture.predict(x_t, level)
    torch.testing.assert_close(prediction.x_0, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(prediction.eps, (x_t - level.alpha * expected) / level.sigma, rtol=1e-12, atol=1e-14)


def test_without_noise_a_sample_is_its_own_explanation():
    mixture, x = random_mixture(), points(4, 3)
    level = PROCESSES[0].grid(torch.zeros(1, dtype=torch.float64))
    prediction = mixture.predict(x, level)
    torch.testing.assert_close(prediction.x_0, x, rtol=1e-9, atol=1e-9)
    assert torch.equal(prediction.eps, torch.zeros_like(x))


def test_at_pure_noise_nothing_is_known_but_the_mean():
    mixture, x_t = random_mixture(), points(4, 3)
    prediction = ExactDenoiser(PROCESSES[2], mixture)(x_t, torch.tensor(1.0, dtype=torch.float64))
    mean = mixture.weights @ mixture.means
    torch.testing.assert_close(prediction.x_0, mean.expand(4, 3), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(prediction.eps, x_t, rtol=1e-14, atol=1e-14)


def test_samples_of_any_shape_and_type():
    mixture = random_mixture(D=12)
    denoiser = ExactDenoiser(PROCESSES[0], mixture)
    x_t, t = points(5, 3, 2, 2), torch.tensor(0.5, dtype=torch.float64)
    image, flat = denoiser(x_t, t), denoiser(x_t.flatten(1), t)
    assert torch.equal(image.x_0.flatten(1), flat.x_0)
    assert torch.equal(image.eps.flatten(1), flat.eps)
    assert mixture.log_prob(x_t).shape == (5,)
    single = denoiser(x_t.float(), t)
    assert single.x_0.dtype == single.eps.dtype == mixture.log_prob(x_t.float()).dtype == torch.float32
    # The input's rounding, once, times slopes of order 1, on numbers of order 10.
    torch.testing.assert_close(single.x_0.double(), image.x_0, rtol=0, atol=2e-5)
    assert denoiser(x_t[:0], t).x_0.shape == (0, 3, 2, 2)


def test_sample_has_the_mixtures_moments():
    mixture, n = random_mixture(), 40_000
    x = mixture.sample(n, torch.Generator().manual_seed(5))
    mean = mixture.weights @ mixture.means
    centred = mixture.means - mean
    covariance = torch.einsum(
        "k,kde->de", mixture.weights, mixture.covariances + centred[:, :, None] * centred[:, None]
    )
    # Each average within 4.5 of its own standard errors, estimated from the draws.
    assert ((x.mean(0) - mean).abs() < 4.5 * x.std(0) / math.sqrt(n)).all()
    products = (x - mean)[:, :, None] * (x - mean)[:, None]
    assert ((products.mean(0) - covariance).abs() < 4.5 * products.std(0) / math.sqrt(n)).all()


def test_constructors_and_refusals():
    one = torch.eye(2, dtype=torch.float64)
    isotropic = GaussianMixture.isotropic(points(3, 2), 0.5)
    assert isotropic.weights.tolist() == pytest.approx([1 / 3] * 3)
    assert torch.equal(isotropic.covariances, 0.25 * one.expand(3, 2, 2))
    weighted = GaussianMixture.isotropic(points(2, 2), 0.5, torch.tensor([0.25, 0.75]))
    assert weighted.weights.tolist() == [0.25, 0.75]
    two = torch.tensor([0.5, 0.5])
    for weights, means, covariances, message in (
        (two, points(3, 2), one.expand(3, 2, 2), r"weights \(2,\)"),
        (two, points(2, 2), one, r"covariances \(2, 2\)"),
        (two, points(4), one, r"means \(4,\)"),
        (torch.tensor([0.5, 0.6]), points(2, 2), one.expand(2, 2, 2), "of sum 1"),
        (torch.tensor([1.5, -0.5]), points(2, 2), one.expand(2, 2, 2), "positive"),
        (two, points(2, 2), -one.expand(2, 2, 2), "no negative eigenvalue"),
        (two, points(2, 2), torch.tensor([[1.0, 0.5], [0.0, 1.0]]).expand(2, 2, 2), "symmetric"),
    ):
        with pytest.raises(InputError, match=message):
            GaussianMixture(weights, means, covariances)


def test_weights_and_covariances_of_float32_are_taken():
    # They are of sum 1, and without negative eigenvalues, to float32's own rounding.
    weights = torch.tensor([0.1, 0.2, 0.7])
    root = torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(0))
    mixture = GaussianMixture(weights, torch.zeros(3, 6), root @ root.mT)
    assert mixture.weights.tolist() == pytest.approx([0.1, 0.2, 0.7], rel=1e-6)
    assert float(mixture.weights.sum()) == pytest.approx(1, abs=1e-15)


def test_an_exact_denoiser_takes_no_condition():
    denoiser = ExactDenoiser(PROCESSES[0], random_mixture())
    with pytest.raises(InputError, match=r"^cond: "):
        denoiser(points(2, 3), torch.tensor(0.5), Condition(classes=torch.tensor([0, 1])))


def test_a_class_is_the_mixture_of_its_components():
    torch.manual_seed(0)
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    means, covariances = torch.randn(3, 2).double(), torch.eye(2).double().expand(3, 2, 2) * 0.3
    process, labels = Process(VP(), Cosine()), torch.tensor([4, 1, 4])
    denoiser = ExactDenoiser(process, GaussianMixture(weights, means, covariances), labels)
    own = ExactDenoiser(process, GaussianMixture(weights[[0, 2]] / 0.7, means[[0, 2]], covariances[:2]))
    x, t = torch.randn(5, 2).double(), torch.linspace(0.1, 1, 5).double()
    classes = torch.tensor([4, NOT_GIVEN, 4, 1, 4])
    found, of_four, of_all = denoiser(x, t, Condition(classes=classes)), own(x, t), denoiser(x, t)
    assert torch.allclose(found.x_0[classes == 4], of_four.x_0[classes == 4], atol=1e-12)
    assert torch.equal(found.eps[1], of_all.eps[1])
    with pytest.raises(InputError, match="a class has no component"):
        denoiser(x, t, Condition(classes=torch.zeros(5, dtype=torch.int64)))
    with pytest.raises(InputError, match="takes classes alone"):
        denoiser(x, t, Condition(augmentation=torch.zeros(5, 1)))
