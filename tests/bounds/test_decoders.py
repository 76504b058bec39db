"""Decoders against scipy, mpmath and formulas written out.

Tolerance of the log of a cell's mass: with L the larger |log Phi| and ends z known to ``eps |z| + eps m / s``, m the
largest magnitude subtracted, log Phi is off by about ``(L + (1 + |z|) m / s) eps``, and the difference of two that are
``gap`` apart by (1 + 1 / gap) times that. ``slack`` is fifty times this.
"""

import math

import mpmath
import pytest
import torch
from scipy import stats
from torch import Tensor

from sfumato.bounds import ContinuousGaussian, DiscretisedGaussian, Factorised, standard_decoder
from sfumato.bounds.decoders import discretised_gaussian
from sfumato.core import VE, VP, LinearLogSNR, Prediction, Process, Straight, Tabulated, ValueGrid, linear_betas
from sfumato.errors import InputError

F64 = torch.float64
GRIDS = {count: ValueGrid(-1.0, 2 / (count - 1), count) for count in (2, 17, 256)}
each_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=lambda grid: f"{grid.count} values")
BETAS = linear_betas(1000)
CHAIN = Process(VP(), Tabulated(BETAS))
FIRST, SECOND = CHAIN.level(0.001), CHAIN.level(0.002)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def draw(grid: ValueGrid, *shape: int, seed: int = 0) -> Tensor:
    """Numbers on a grid, both ends among them."""
    index = torch.randint(grid.count, shape, generator=torch.Generator().manual_seed(seed))
    index.view(-1)[0], index.view(-1)[-1] = 0, grid.count - 1
    return grid.values[index]


def exact_cell(grid: ValueGrid, i: int, mean: float, variance: float):
    """(log mass, its derivatives by mean and by variance, slack) of cell i in 60 digits, with open outer cells."""
    with mpmath.workdps(60):
        s = mpmath.sqrt(mpmath.mpf(variance))
        centre = mpmath.mpf(grid.low) + mpmath.mpf(grid.step) * i - mpmath.mpf(mean)
        a = (centre - mpmath.mpf(grid.step) / 2) / s if i else -mpmath.inf
        b = (centre + mpmath.mpf(grid.step) / 2) / s if i < grid.count - 1 else mpmath.inf
        if a > -b:
            a, b, sign = -b, -a, -1
        else:
            sign = 1

        def cdf(z):
            return mpmath.erfc(-z / mpmath.sqrt(2)) / 2

        def pdf(z):
            return mpmath.npdf(z) if mpmath.isfinite(z) else mpmath.mpf(0)

        def moment(z):
            return z * pdf(z) if mpmath.isfinite(z) else mpmath.mpf(0)

        mass = cdf(b) - cdf(a)
        by_mean = -sign * (pdf(b) - pdf(a)) / mass / s
        by_variance = -(moment(b) - moment(a)) / mass / (2 * s * s)
        gap = mpmath.log(cdf(b)) - mpmath.log(cdf(a)) if mpmath.isfinite(a) else mpmath.inf
        size = max(abs(mpmath.log(cdf(z))) for z in (a, b) if mpmath.isfinite(z))
        far = max(abs(z) for z in (a, b) if mpmath.isfinite(z))
        slack = 50 * 2.2e-16 * (1 + size + (1 + far) * (abs(mean) + 1) / s) * (1 + 1 / gap)
        return float(mpmath.log(mass)), float(by_mean), float(by_variance), float(slack)


# ------------------------------------------------------------------------------------------------ the grid


@each_grid
def test_the_index_of_a_value_is_its_place(grid):
    assert grid.values.shape == (grid.count,)
    assert grid.index(grid.values[None])[0].tolist() == list(range(grid.count))
    assert grid.index(grid.values[None].float())[0].tolist() == list(range(grid.count))
    assert float(grid.values[-1]) == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [0.3, -1.125, 1.125, math.nan, math.inf], ids=str)
def test_numbers_off_the_grid_are_named_in_one_line(bad):
    grid = GRIDS[17]
    x = torch.tensor([[0.0, bad], [0.5, -1.0]], dtype=F64)
    with pytest.raises(
        InputError, match=rf"data: 1 numbers are none of the 17 values from -1 to 1 .* {bad:g};"
    ) as said:
        grid.index(x)
    assert "\n" not in str(said.value)
    for decoder in (DiscretisedGaussian(grid), Factorised(grid)):
        with pytest.raises(InputError, match="none of the 17 values"):
            decoder.log_prob(x, x, FIRST, SECOND, Prediction(x, x))


# ------------------------------------------------------------------------------------------------ discretised Gaussian

MEANS = (-0.97, 0.0, 0.3141, 1.0, -1.6, 40.0, -300.0)
VARIANCES = (1e-4, 1e-2, 0.3, 1e4)


@each_grid
@pytest.mark.parametrize("variance", VARIANCES)
def test_a_cell_has_the_mass_of_the_normal_law_even_far_in_its_tails(grid, variance):
    cells = sorted({0, 1, grid.count // 2, grid.count - 1})
    for mean in MEANS:
        for i in cells:
            want, _, _, slack = exact_cell(grid, i, mean, variance)
            x = (grid.low + grid.step * torch.tensor([[i]], dtype=F64)).double()
            got = discretised_gaussian(x, grid, torch.full((1, 1), mean, dtype=F64), torch.tensor(variance, dtype=F64))
            assert abs(float(got) - want) <= slack, (mean, i, want)


def test_cell_masses_are_differences_of_scipys_distribution_function():
    grid = GRIDS[17]
    x, variance = draw(grid, 64, 3), 0.04
    mean = x + 0.3 * normal(64, 3)
    inner = (grid.index(x) > 0) & (grid.index(x) < 16)
    upper = torch.where(inner | (x < 0), x + grid.step / 2, math.inf)
    lower = torch.where(inner | (x > 0), x - grid.step / 2, -math.inf)
    law = stats.norm(mean.numpy(), math.sqrt(variance))
    mass = torch.from_numpy(law.cdf(upper.numpy()) - law.cdf(lower.numpy()))
    got = discretised_gaussian(x, grid, mean, torch.tensor(variance, dtype=F64))
    # A difference of numbers near 1 is right to 2e-16, and these masses are above 1e-7.
    assert float(mass.min()) > 1e-7
    torch.testing.assert_close(got, mass.log().sum(1), rtol=0, atol=1e-8)


@each_grid
@pytest.mark.parametrize("variance", VARIANCES)
def test_the_cells_of_all_values_hold_all_of_the_mass(grid, variance):
    """float32 too: what is rounded is the mean, not the masses."""
    for mean in MEANS:
        for dtype in (F64, torch.float32):
            x = grid.values[:, None].to(dtype)
            log_mass = discretised_gaussian(x, grid, torch.full_like(x, mean), torch.tensor(variance, dtype=F64))
            # Absolute: a mass m is off by m times the slack, at most 1e-12 / step wherever m is not tiny.
            assert float(log_mass.exp().sum()) == pytest.approx(1, abs=1e-9)


def test_the_outer_cells_are_open():
    grid = GRIDS[17]
    ends = torch.tensor([[-1.0], [1.0]], dtype=F64)
    far = discretised_gaussian(ends, grid, 5 * ends, torch.tensor(0.01, dtype=F64))
    assert far.tolist() == [0.0, 0.0]
    half = discretised_gaussian(ends, grid, ends * (1 - grid.step / 2), torch.tensor(0.01, dtype=F64))
    torch.testing.assert_close(half, torch.full((2,), math.log(0.5), dtype=F64), rtol=1e-12, atol=0)


@each_grid
def test_gradients_are_those_of_the_mass_even_far_in_its_tails(grid):
    cells = sorted({0, 1, grid.count // 2, grid.count - 1})
    for i in cells:
        for mean in MEANS:
            for variance in VARIANCES:
                m = torch.full((1, 1), mean, dtype=F64, requires_grad=True)
                v = torch.full((1, 1), variance, dtype=F64, requires_grad=True)
                x = grid.low + grid.step * torch.full((1, 1), i, dtype=F64)
                discretised_gaussian(x, grid, m, v).sum().backward()
                _, by_mean, by_variance, slack = exact_cell(grid, i, mean, variance)
                # In units of what a cell's two ends contribute: a density over a distribution function, at most
                # (1 + |z|) / s, and the cell's mass divides it by at least its gap.
                s = math.sqrt(variance)
                ends = (1 + (abs(mean) + 1) / s) / s
                assert abs(float(m.grad) - by_mean) <= (slack / (grid.step / s) + 1e-12) * ends * 2
                ends *= (1 + (abs(mean) + 1) / s) / s
                assert abs(float(v.grad) - by_variance) <= (slack / (grid.step / s) + 1e-12) * ends * 2


def ho() -> tuple[float, float]:
    """beta-tilde_2 and beta_1, Ho et al. 2020, eq. 7."""
    beta_1, beta_2 = float(BETAS[0]), float(BETAS[1])
    bar_1 = 1 - beta_1
    bar_2 = bar_1 * (1 - beta_2)
    return (1 - bar_1) / (1 - bar_2) * beta_2, beta_1


@pytest.mark.parametrize("share", [None, 0.0, 0.3, 1.0], ids=str)
def test_the_variance_on_ddpms_chain_is_beta_tilde_2_or_a_learned_share_up_to_beta_1(share):
    grid = GRIDS[256]
    x = draw(grid, 20, 2, 3)
    mean = x + 0.004 * normal(20, 2, 3, seed=1)
    small, large = ho()
    std = math.sqrt(small ** (1 - (share or 0)) * large ** (share or 0))
    upper = torch.where(x > 1 - 1e-9, math.inf, x + grid.step / 2)
    lower = torch.where(x < -1 + 1e-9, -math.inf, x - grid.step / 2)
    law = stats.norm(mean.numpy(), std)
    want = torch.from_numpy(law.cdf(upper.numpy()) - law.cdf(lower.numpy())).log().sum((1, 2))
    learned = None if share is None else torch.full_like(x, share)
    decoder = DiscretisedGaussian(grid)
    got = decoder.log_prob(x, x, FIRST, SECOND, Prediction(mean, mean, learned))
    # The level's sigma^2 is right to 1e-12 or so of itself; of the masses, see above: here they exceed 0.01.
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    assert decoder.needs_prediction
    assert decoder.grid is grid


def test_without_a_following_level_the_variance_is_that_of_the_noise():
    level = Process(VP(), LinearLogSNR()).level(0.0)
    grid, x = GRIDS[17], draw(GRIDS[17], 5, 2)
    got = DiscretisedGaussian(grid).log_prob(x, x, level, None, Prediction(x + 0.06, x))
    torch.testing.assert_close(got, discretised_gaussian(x, grid, x + 0.06, level.sigma**2), rtol=1e-14, atol=0)
    shared = Prediction(x + 0.06, x, torch.full_like(x, 0.4))
    torch.testing.assert_close(DiscretisedGaussian(grid).log_prob(x, x, level, None, shared), got, rtol=1e-12, atol=0)


# ------------------------------------------------------------------------------------------------ factorised


@each_grid
@pytest.mark.parametrize("scaling", [VP(), VE(), Straight()], ids=lambda scaling: type(scaling).__name__)
def test_factorised_is_the_posterior_of_a_value_under_an_even_prior(grid, scaling):
    """Bayes written out with scipy's density of x_t: P(v | x_t) = q(x_t | v) / sum of q(x_t | v')."""
    level = scaling.at(torch.tensor([3.0, 1.0, -1.0], dtype=F64) - 2 * math.log(grid.step))  # values are confused
    x = draw(grid, 3, 2, 2)
    alpha, sigma = (v[:, None, None] for v in (level.alpha, level.sigma))
    x_t = alpha * x + sigma * normal(3, 2, 2, seed=2)
    density = stats.norm.logpdf(
        x_t[..., None].numpy(), (alpha[..., None] * grid.values).numpy(), sigma[..., None].numpy()
    )
    log_all = torch.from_numpy(density).log_softmax(-1)
    want = sum(log_all[..., i] * (grid.index(x) == i) for i in range(grid.count)).sum((1, 2))
    got = Factorised(grid).log_prob(x, x_t, level)
    # exp(logsnr) / 2 times squares up to 4 / step^2 in cells: logits up to 1e3, so 1e-12 of rounding on each.
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9 * grid.count)
    assert not Factorised(grid).needs_prediction


@each_grid
def test_factorised_probabilities_of_all_values_sum_to_one(grid):
    level = VP().at(torch.tensor(2.0 - 2 * math.log(grid.step), dtype=F64))
    x = grid.values[:, None]
    for x_t in (-3.0, 0.01, 0.7):
        log_p = Factorised(grid).log_prob(x, torch.full_like(x, x_t), level)
        assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-12)


# ------------------------------------------------------------------------------------------------ continuous


@pytest.mark.parametrize("scaling", [VP(), VE(), Straight()], ids=lambda scaling: type(scaling).__name__)
def test_the_continuous_decoder_is_a_normal_density_as_wide_as_the_noise_on_data(scaling):
    logsnr = torch.tensor([9.0, 4.0], dtype=F64)
    x, mean = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    ratio = torch.exp(-logsnr / 2)[:, None, None]
    want = torch.from_numpy(stats.norm.logpdf(x.numpy(), mean.numpy(), ratio.numpy())).sum((1, 2))
    decoder = ContinuousGaussian()
    got = decoder.log_prob(x, x, scaling.at(logsnr), None, Prediction(mean, mean))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    single = decoder.log_prob(x.float(), x.float(), scaling.at(logsnr), None, Prediction(mean.float(), mean.float()))
    assert single.dtype == F64
    # Squares over r^2 of numbers rounded to 6e-8: 2 |x - m| 6e-8 (|x| + |m|) / r^2 each, at most 3e-6 / 1e-4 here.
    torch.testing.assert_close(single, want, rtol=1e-6, atol=0.03)
    assert decoder.needs_prediction
    assert decoder.grid is None


@pytest.mark.parametrize("scaling", [VP(), VE(), Straight()], ids=lambda scaling: type(scaling).__name__)
def test_the_continuous_decoder_that_does_not_ask_is_centred_on_the_noisy_number(scaling):
    level = scaling.at(torch.tensor([9.0, 4.0], dtype=F64))
    x, x_t = normal(2, 3), normal(2, 3, seed=1)
    ratio = torch.exp(-level.logsnr / 2)[:, None]
    want = torch.from_numpy(stats.norm.logpdf(x.numpy(), (x_t / level.alpha[:, None]).numpy(), ratio.numpy())).sum(1)
    torch.testing.assert_close(
        ContinuousGaussian(needs_prediction=False).log_prob(x, x_t, level), want, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_the_continuous_decoder_takes_a_learned_share(share):
    x, mean = normal(4, 3), normal(4, 3, seed=1)
    small, large = ho()
    std = math.exp(0.5 * (share * math.log(large) + (1 - share) * math.log(small)))
    want = torch.from_numpy(stats.norm.logpdf(x.numpy(), mean.numpy(), std)).sum(1)
    got = ContinuousGaussian().log_prob(x, x, FIRST, SECOND, Prediction(mean, mean, torch.full_like(x, share)))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "decoder", [DiscretisedGaussian(GRIDS[2]), ContinuousGaussian()], ids=lambda d: type(d).__name__
)
def test_a_decoder_that_asks_says_when_it_was_not_answered(decoder):
    x = draw(GRIDS[2], 3, 2)
    with pytest.raises(InputError, match="needs the prediction"):
        decoder.log_prob(x, x, FIRST, SECOND)


def test_the_standard_decoder_is_that_of_the_papers():
    grid = ValueGrid(-1.0, 0.25, 9)
    chain, clock = Process(VP(), Tabulated(linear_betas(10))), Process(VP(), LinearLogSNR(-6.0, 9.0))
    assert standard_decoder(chain, grid) == DiscretisedGaussian(grid)  # Ho et al. 2020
    assert standard_decoder(clock, grid) == Factorised(grid)  # Kingma et al. 2021
    for process in (chain, clock):
        assert standard_decoder(process, None) == ContinuousGaussian()
