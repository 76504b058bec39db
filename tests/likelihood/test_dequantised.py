"""The likelihood of data with levels: weights whose mean is a probability that is known otherwise.

Copies of a value in one batch have draws of their own. The mean of ``w = exp(-nats)`` over them at one draw is P
itself, and -log of a mean of K of them an upper bound that falls with K.
"""

import math

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from sfumato.core import VE, VP, Cosine, LinearLogSNR, Process, SeededNoise, ValueGrid
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.likelihood import dequantised_likelihood
from sfumato.numerics import random

# torchode's own: scripted classes.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

F64 = torch.float64
GRID = ValueGrid(-1.0, 0.5, 5)
TABLE = torch.tensor([0.3, 0.05, 0.25, 0.1, 0.3], dtype=F64)  # one number's values
POINTS = GaussianMixture.isotropic(GRID.values[:, None], 1e-6, TABLE)
# Smooth within cells, in two numbers.
WIDE = GaussianMixture.isotropic(torch.tensor([[0.5, -0.5], [-0.6, 0.3]], dtype=F64), 0.35, torch.tensor([0.6, 0.4]))
CLEAR = Process(VP(), Cosine(-14.0, 12.0))


def cell(mixture: GaussianMixture, x: Tensor, step: float) -> Tensor:
    """The mass of each cell, by scipy's distribution function."""
    std = mixture.covariances[:, 0, 0].sqrt()[:, None].numpy()
    total = 0.0
    for k, w in enumerate(mixture.weights):
        law = stats.norm(mixture.means[k].numpy(), std[k])
        total = total + float(w) * torch.from_numpy(law.cdf(x + step / 2) - law.cdf(x - step / 2)).prod(1)
    return total


def blurred(process: Process) -> Tensor:
    """P(v) = integral of p(x_t) P(v | x_t), the model's own probabilities where its finest level confuses values."""
    level = process.level(0.0)
    a, s = float(level.alpha), float(level.sigma)
    values, table = GRID.values.numpy(), TABLE.numpy()

    def weight(v: int):
        def integrand(x: float) -> float:
            likelihoods = stats.norm.pdf(x, a * values, s)
            return (table * likelihoods).sum() * likelihoods[v] / likelihoods.sum()

        return integrand

    edge = a + 9 * s
    return torch.tensor(
        [integrate.quad(weight(v), -edge, edge, limit=400, epsabs=1e-11)[0] for v in range(5)], dtype=F64
    )


# ------------------------------------------------------------------------------------------------ by noise


def test_where_the_noise_cannot_confuse_values_one_draw_is_the_truth():
    """Then p(x_t) = P(x_0) q(x_t | x_0) and every weight is P(x_0): only the ODE's error is left."""
    x = GRID.values[:, None]
    process = Process(VP(), LinearLogSNR(-14.0, 7.0))  # sigma = 0.03, a sixteenth of a step
    for draws in (1, 2):
        found = dequantised_likelihood(ExactDenoiser(process, POINTS), x, GRID, draws=draws, tolerance=1e-6)
        torch.testing.assert_close(-found.nats, TABLE.log(), rtol=0, atol=2e-3)
    assert float(found.variance.max()) < 1e-5


@pytest.mark.parametrize("scaling", [VP(), VE()], ids=lambda scaling: type(scaling).__name__)
def test_by_noise_its_weights_mean_is_the_models_probability(scaling):
    """A level that does confuse values: 500 copies of each against quadrature, 4 sigma. It bounds from above."""
    process = Process(scaling, LinearLogSNR(-13.0, 3.0))
    truth = blurred(process)
    assert float(truth.sum()) == pytest.approx(1, abs=1e-8)
    assert float((truth - TABLE).abs().max()) > 0.01  # the quadrature is not the table itself
    found = dequantised_likelihood(
        ExactDenoiser(process, POINTS), GRID.values[:, None].repeat(500, 1), GRID, tolerance=1e-5, batch=2500
    )
    w = (-found.nats).exp().reshape(500, 5)
    assert float(((w.mean(0) - truth) / (w.std(0) / math.sqrt(500))).abs().max()) < 4
    assert float((w.std(0) / math.sqrt(500) / truth).max()) < 0.05  # what 4 of them could hide is a fifth at most
    assert float((found.nats.reshape(500, 5).mean(0) + truth.log()).min()) > 0


# ------------------------------------------------------------------------------------------------ uniformly


def test_uniformly_its_weights_mean_is_the_cells_mass():
    """400 copies of four cells of two numbers against scipy: D log step, cells of one step, centred. 4 sigma."""
    x = torch.tensor([[0.5, -0.5], [0.0, 0.0], [-1.0, 1.0], [1.0, 0.0]], dtype=F64)
    truth = cell(WIDE, x, GRID.step)
    found = dequantised_likelihood(
        ExactDenoiser(CLEAR, WIDE), x.repeat(400, 1), GRID, by="uniform", tolerance=1e-4, batch=1600
    )
    w = (-found.nats).exp().reshape(400, 4)
    # The ODE at 1e-4 is right to some 1e-3 nats.
    error = w.std(0) / 20 + 1e-3 * truth
    assert float(((w.mean(0) - truth) / error).abs().max()) < 4
    assert float((error / truth).max()) < 0.05
    assert bool(found.variance.isnan().all())


def test_a_density_that_is_flat_needs_no_draws():
    """Over cells a hundredth of its width the density is its value in the middle times step^D."""
    grid = ValueGrid(-1.0, 1 / 256, 513)
    x = torch.tensor([[0.5, -0.5], [0.25, 0.0], [-0.75, 0.5]], dtype=F64)
    found = dequantised_likelihood(ExactDenoiser(CLEAR, WIDE), x, grid, by="uniform", tolerance=1e-6)
    # A slope of up to 5 nats a unit, over half a cell of 1/512 in each of two numbers.
    torch.testing.assert_close(found.nats, -cell(WIDE, x, grid.step).log(), rtol=0, atol=0.03)
    assert found.dimensions == 2


# ------------------------------------------------------------------------------------------------ more draws


@pytest.mark.parametrize("by", ["noise", "uniform"])
def test_more_draws_are_a_tighter_bound_and_their_variance_is_true(by):
    """-E log (1/K) sum w falls with K and stays above -log P; the variance of 8 draws is known to first order."""
    if by == "noise":
        process = Process(VP(), LinearLogSNR(-13.0, 3.0))
        mixture, truth, x = POINTS, blurred(process), GRID.values[:, None]
    else:
        process, mixture, x = CLEAR, WIDE, torch.tensor([[0.5, -0.5], [0.0, 0.0]], dtype=F64)
        truth = cell(WIDE, x, GRID.step)
    copies = 100
    means = []
    for draws in (1, 8):
        found = dequantised_likelihood(
            ExactDenoiser(process, mixture), x.repeat(copies, 1), GRID, by=by, draws=draws, tolerance=1e-4, batch=1000
        )
        values = found.nats.reshape(copies, -1)
        error = float(values.var(0).sum().sqrt()) / math.sqrt(copies) / len(x)
        means.append((float(values.mean()), error))
    bound = float(-truth.log().mean())
    assert means[1][0] + 3 * means[1][1] < means[0][0]
    for mean, error in means:
        assert mean > bound - 4 * error - 1e-3
    # A log of a mean of K weights of relative variance V loses about V / 2K.
    assert means[1][0] - bound < 0.35 * (means[0][0] - bound) + 4 * means[1][1]
    # 100 copies of several samples: the empirical variance is known to 10%, and the first order lacks V / K of itself.
    assert 0.6 < float(found.variance.mean() / values.var(0).mean()) < 1.5


def test_a_draw_is_the_density_at_its_own_place():
    """Both kinds rebuilt from the noise and the uniforms that belong to a sample, draw by draw."""
    x = torch.tensor([[0.5, -0.5], [0.0, 1.0], [-1.0, 0.0]], dtype=F64)
    process = Process(VP(), LinearLogSNR(-25.0, 3.0))  # for one sample the prior's gap is alpha |m| |y|, not its square
    denoiser, level, noise = ExactDenoiser(process, WIDE), process.level(0.0), SeededNoise.samples(7, 3)
    weights = []
    for k in range(2):
        z = noise(k, x)
        x_t = level.alpha * x + level.sigma * z
        log_q = torch.from_numpy(stats.norm.logpdf(x_t, level.alpha * x, level.sigma)).sum(1)
        each = torch.from_numpy(stats.norm.logpdf(x_t[..., None], level.alpha * GRID.values, level.sigma))
        log_p = sum(each.log_softmax(-1)[..., i] * (x == GRID.values[i]) for i in range(5)).sum(1)
        weights.append(WIDE.log_prob(x_t, level) + log_p - log_q)
    found = dequantised_likelihood(denoiser, x, GRID, draws=2, seed=7, tolerance=1e-7)
    want = torch.stack(weights).logsumexp(0) - math.log(2)
    torch.testing.assert_close(-found.nats, want, rtol=0, atol=1e-4)
    w = torch.stack(weights).exp()
    torch.testing.assert_close(found.variance, w.var(0) / 2 / w.mean(0) ** 2, rtol=1e-3, atol=1e-4)
    weights = []
    for k in range(2):
        u = random.uniform(random.keys(random.derive(7, "cells", k), torch.arange(3)), 0, 2)
        at = x + GRID.step * (u - 0.5)
        weights.append(WIDE.log_prob(at) + 2 * math.log(GRID.step))
    found = dequantised_likelihood(ExactDenoiser(CLEAR, WIDE), x, GRID, by="uniform", draws=2, seed=7, tolerance=1e-7)
    torch.testing.assert_close(-found.nats, torch.stack(weights).logsumexp(0) - math.log(2), rtol=0, atol=5e-4)


def test_evaluations_and_progress_add_up(counted):
    x = torch.tensor([[0.5, -0.5], [0.0, 1.0], [-1.0, 0.0]], dtype=F64)
    seen: list[tuple[int, int]] = []
    denoiser = counted(CLEAR, WIDE)
    found = dequantised_likelihood(
        denoiser, x, GRID, by="uniform", draws=2, batch=2, progress=lambda done, total: seen.append((done, total))
    )
    # Two batches a draw, of 2 samples and of 1, each as long as its hardest sample.
    assert denoiser.count / 3 <= found.evaluations <= denoiser.count
    assert seen == [(2, 6), (3, 6), (5, 6), (6, 6)]


def test_the_result_does_not_depend_on_how_the_data_is_cut():
    x = torch.tensor([[0.5, -0.5], [0.0, 1.0], [-1.0, 0.0], [0.5, 0.5]], dtype=F64)
    for by, probes in (("noise", None), ("uniform", 2)):
        runs = [
            dequantised_likelihood(
                ExactDenoiser(CLEAR, WIDE), x, GRID, by=by, draws=2, probes=probes, batch=batch, tolerance=1e-3
            )
            for batch in (256, 2)
        ]
        torch.testing.assert_close(runs[0].nats, runs[1].nats, rtol=0, atol=1e-9)


def test_probes_do_not_repeat_from_draw_to_draw():
    """With one probe a draw and the same probes in all of them, 8 draws would be no better than one."""
    x = torch.tensor([[0.5, -0.5]], dtype=F64).repeat(60, 1)
    mixture = GaussianMixture.gaussian(torch.zeros(2, dtype=F64), torch.tensor([[0.3, 0.2], [0.2, 0.3]], dtype=F64))
    grid = ValueGrid(-1.0, 1 / 256, 513)
    few, many = (
        dequantised_likelihood(
            ExactDenoiser(CLEAR, mixture), x, grid, by="uniform", draws=draws, probes=1, tolerance=1e-2
        ).nats.std()
        for draws in (1, 8)
    )
    assert float(many) < 0.6 * float(few)


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("by", ["noise", "uniform"])
def test_refusals(by):
    denoiser = ExactDenoiser(CLEAR, WIDE)
    x = torch.tensor([[0.5, -0.5]], dtype=F64)
    for data, setting, said in (
        (x, {"draws": 0}, "draws: 0 is not allowed; give a whole number of at least 1"),
        (x + 0.1, {}, "data: 2 numbers are none of the 5 values"),
        (x * math.nan, {}, "data: 1 of 1 samples have numbers that are NaN"),
        (x[:0], {}, "data: no samples"),
        (x, {"tolerance": 2.0}, "tolerance: 2.0 does not suit an ODE"),
        (x, {"probes": 0}, "probes: 0 is not allowed"),
    ):
        with pytest.raises(InputError, match=said) as error:
            dequantised_likelihood(denoiser, data, GRID, by=by, **setting)
        assert "\n" not in str(error.value)
