import math

import numpy as np
import pytest
import torch

from sfumato.data import TOYS
from sfumato.errors import InputError

N = 40_000
PI = math.pi
# Mean and mean square of each coordinate, by integrating over the curve; the noise adds 0.05^2 to a mean square.
MOMENTS = {
    # Upper arc (cos a, sin a), lower (1 - cos a, 1/2 - sin a), a uniform on (0, pi).
    "moons": ((0.5, 0.25), (1.0, 0.625 - 1 / PI)),
    # r = a/10; the integral of a cos a is a sin a + cos a, of a sin a it is sin a - a cos a,
    # of a^2 cos^2 a it is a^3/6 + a^2 sin 2a/4 + a cos 2a/4 - sin 2a/8.
    "swiss-roll": (
        (0.2, 2 / (30 * PI)),
        tuple(((4.5**3 - 1.5**3) * PI**3 / 6 + sign * (-4.5 + 1.5) * PI / 4) / (300 * PI) for sign in (1, -1)),
    ),
    "checkerboard": ((0.0, 0.0), (4 / 3 - 0.05**2,) * 2),
    "gaussians": ((0.0, 0.0), (0.5, 0.5)),
}


@pytest.mark.parametrize("name", TOYS)
def test_moments_are_those_of_the_distribution(name: str) -> None:
    x = TOYS[name].sample(N, seed=1)
    assert x.shape == (N, 2)
    assert x.dtype == torch.float64
    mean, square = MOMENTS[name]
    # Four standard errors, from the spread of the samples themselves; one in 10^4 seeds would fail one of 16 so.
    for values, expected, noise in ((x, mean, 0.0), (x.square(), square, 0.05**2)):
        error = values.mean(dim=0) - torch.tensor(expected, dtype=torch.float64) - noise
        assert (error.abs() < 4 * values.std(dim=0) / math.sqrt(N)).all(), (name, error)


def test_samples_are_a_function_of_number_and_seed() -> None:
    for toy in TOYS.values():
        assert torch.equal(toy.sample(50, 3), toy.sample(50, 3))
        assert not torch.equal(toy.sample(50, 3), toy.sample(50, 4))
        assert toy.sample(0, 3).shape == (0, 2)
        with pytest.raises(InputError, match="n: -1 is not allowed; give a whole number of at least 0"):
            toy.sample(-1, 0)
    state = torch.random.get_rng_state()
    TOYS["moons"].sample(5, 0)
    assert torch.equal(state, torch.random.get_rng_state())


def test_moons_lie_on_their_arcs() -> None:
    x = TOYS["moons"].sample(5000, seed=0)
    centres = torch.tensor([[0.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    off = ((x[:, None] - centres).norm(dim=-1) - 1).abs().min(dim=1).values
    assert off.max() < 6 * 0.05


def test_the_roll_lies_on_its_spiral() -> None:
    x = TOYS["swiss-roll"].sample(5000, seed=0)
    angle = torch.linspace(1.5 * PI, 4.5 * PI, 4000, dtype=torch.float64)
    spiral = torch.stack((angle * angle.cos(), angle * angle.sin()), dim=-1) / 10
    # 5.5 standard deviations of a Gaussian in the plane are exceeded once in 4 million.
    assert torch.cdist(x, spiral).min(dim=1).values.max() < 5.5 * 0.05


def test_the_density_of_the_gaussians_is_the_sum_of_its_modes() -> None:
    toy = TOYS["gaussians"]
    assert toy.log_prob is not None
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.2, 1.2, (200, 2))
    total = np.zeros(200)
    for i in range(-2, 3):
        for j in range(-2, 3):
            square = (x[:, 0] - i / 2) ** 2 + (x[:, 1] - j / 2) ** 2
            total += np.exp(-square / (2 * 0.05**2)) / (2 * math.pi * 0.05**2) / 25
    # Six significant digits where the plain sum does not underflow, and it does not: |x - m| < 0.36 = 7 deviations.
    np.testing.assert_allclose(toy.log_prob(torch.from_numpy(x)).numpy(), np.log(total), rtol=1e-10)
    far = toy.log_prob(torch.tensor([[50.0, 0.0]]))
    # At 50 only the column of modes at 1 counts, and there the row at 0: -49^2 / (2 0.05^2) = -480200, to float32.
    assert far.dtype == torch.float32
    assert math.isclose(far.item(), -480200 - math.log(25 * 2 * math.pi * 0.05**2), rel_tol=1e-6)


def test_samples_of_the_gaussians_have_their_entropy() -> None:
    toy = TOYS["gaussians"]
    assert toy.log_prob is not None
    log_prob = toy.log_prob(toy.sample(N, seed=2))
    # Modes are 10 deviations apart, so their overlap is below 1e-6: the entropy is log 25 + log(2 pi e 0.05^2).
    entropy = math.log(25) + math.log(2 * math.pi * math.e * 0.05**2)
    assert abs(-log_prob.mean().item() - entropy) < 4 / math.sqrt(N)  # log_prob has variance 1 in two dimensions


def test_the_modes_are_equally_likely() -> None:
    x = TOYS["gaussians"].sample(N, seed=3)
    modes = (2 * x).round().long() + 2
    counts = (5 * modes[:, 0] + modes[:, 1]).bincount(minlength=25).double()
    # Chi-square, 24 degrees: 66.6 at p = 1e-6. One mode of half the weight would give about 40000/25/4 = 400.
    assert counts.shape == (25,)
    assert ((counts - N / 25) ** 2 / (N / 25)).sum() < 66.6


def test_the_checkerboard_integrates_to_one() -> None:
    toy = TOYS["checkerboard"]
    assert toy.log_prob is not None
    # Midpoints of a grid whose cells divide the squares: exact, and it reaches beyond the support.
    middle = (torch.arange(-50, 50, dtype=torch.float64) + 0.5) / 20
    density = toy.log_prob(torch.cartesian_prod(middle, middle)).exp()
    assert math.isclose(density.sum().item() / 20**2, 1, rel_tol=1e-12)
    assert set(density.tolist()) == {0.0, math.exp(-math.log(8.0))}
    assert toy.log_prob(torch.tensor([[-1.5, -1.5], [-0.5, -1.5], [-2.5, -1.5]])).tolist()[1:] == [-math.inf] * 2


def test_samples_of_the_checkerboard_fill_its_squares_uniformly() -> None:
    toy = TOYS["checkerboard"]
    assert toy.log_prob is not None
    x = toy.sample(N, seed=4)
    assert (toy.log_prob(x) == -math.log(8.0)).all()
    # In quarters of each square's sides: 128 cells. Chi-square, 127 degrees: 217 at p = 1e-6. Samples denser by a
    # tenth in one half of the plane would give 40000 0.1^2 = 400.
    cell = ((x + 2) * 4).floor().long()
    counts = (16 * cell[:, 0] + cell[:, 1]).bincount(minlength=256).double()
    counts = counts[counts > 0]
    assert counts.shape == (128,)
    assert ((counts - N / 128) ** 2 / (N / 128)).sum() < 217


def test_the_density_of_the_roll_is_the_integral_along_its_spiral() -> None:
    from scipy.integrate import quad

    toy = TOYS["swiss-roll"]
    assert toy.log_prob is not None
    rng = np.random.default_rng(0)
    places = (toy.sample(6, seed=5).numpy(), rng.uniform(-2, 2, (6, 2)), rng.uniform(-9, 9, (6, 2)))
    for points, tolerance in zip(places, (1e-9, 1e-9, 1e-6), strict=True):
        got = toy.log_prob(torch.from_numpy(points)).numpy()
        for (u, v), value in zip(points, got, strict=True):

            def exponent(a, u=u, v=v):
                return -((u - a * np.cos(a) / 10) ** 2 + (v - a * np.sin(a) / 10) ** 2) / (2 * 0.05**2)

            # Adaptive quadrature in pieces of a hundredth of a radian, those where the integrand is not negligible.
            edges = np.linspace(1.5 * PI, 4.5 * PI, 1001)
            top = exponent(np.linspace(1.5 * PI, 4.5 * PI, 100_001)).max()
            highest = np.maximum(exponent(edges[:-1]), exponent(edges[1:])) - top
            total = sum(
                quad(lambda a, f=exponent, top=top: np.exp(f(a) - top), edges[i], edges[i + 1], epsabs=1e-13)[0]
                for i in np.flatnonzero(highest > -60)
            )
            expected = math.log(total / (3 * PI)) + top - math.log(2 * PI * 0.05**2)
            assert abs(value - expected) < tolerance


def test_the_roll_integrates_to_one_and_its_samples_have_its_entropy() -> None:
    toy = TOYS["swiss-roll"]
    assert toy.log_prob is not None
    # Cells of half a standard deviation: the midpoint rule is exact to exp(-2 pi^2 / 0.5^2) = 1e-34, and beyond
    # +-1.8 lies less than exp(-(0.38 / 0.05)^2 / 2) = 1e-12.
    middle = torch.arange(-1.8, 1.8, 0.025, dtype=torch.float64) + 0.0125
    log_prob = toy.log_prob(torch.cartesian_prod(middle, middle))
    assert abs(log_prob.exp().sum().item() * 0.025**2 - 1) < 1e-10
    entropy = -(log_prob.exp() * log_prob).sum().item() * 0.025**2
    assert abs(entropy - 0.581796) < 1e-6  # the number that docs/hierarchy.md compares with
    values = toy.log_prob(toy.sample(N // 4, seed=6))
    assert abs(values.mean().item() + entropy) < 4 * values.std().item() / math.sqrt(N // 4)
    assert toy.log_prob(torch.zeros(0, 2)).shape == (0,)
    assert toy.log_prob(torch.zeros(1, 2)).dtype == torch.float32
