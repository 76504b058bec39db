"""The laws that samplers with noise draw from: exactly for Gaussian data, by two-sample tests for a mixture.

With the exact beliefs about a Gaussian every row is affine in the state and in its noise. A batch of unit probes then
gives mean and covariance of a sampler's output without a random number, and its errors show their order.

For the mixture, samples are compared with exact draws by component: the counts by a chi-square test of homogeneity, and
in each component, standardised, the means of u_1, u_2, u_1^2, u_2^2 and u_1 u_2, whose variances are known (1, 1, 2, 2,
1). The sum of all these squares has a chi-square law with 2 + 15 degrees of freedom when the laws are the same, and a
non-central one when they are not: at ``COUNT`` samples and a level of 1e-3, the chance to reject is

    a component of weight 0.3 drawn 10 % too often                                      0.981
    one axis of the smallest component 10 % too wide                                    0.985
    the smallest component off by 15 % of its standard deviation along one axis         0.988

(non-centralities of 53, 55 and 56), which ``test_the_test_has_its_stated_power`` measures. Some samplers have a larger
bias than that at 100 steps; all are compared with the law that they are known to have, by probing each component.
"""

import dataclasses
import functools
import math

import pytest
import torch
from scipy import stats

from sfumato.core import VE, VP, Cosine, LinearLogSNR, Logistic, Process, Straight
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.sampling import (
    Tableau,
    ancestral,
    corrected,
    ddim,
    dpm_solver_pp,
    euler_maruyama,
    heun,
    langevin,
    posterior_spread,
    reverse_diffusion,
    run,
)
from sfumato.sampling.methods import METHODS

# Process.sde differentiates forwards, for which torch imports a module of its own that warns of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

F64 = torch.float64
PROCESSES = {
    "VP": Process(VP(), Cosine()),
    "VE": Process(VE(), LinearLogSNR(-8.0, 8.0)),
    "straight": Process(Straight(), Logistic()),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


# --- Gaussian data, by probing ----------------------------------------------------------------------------------------


def gaussian() -> GaussianMixture:
    """Two axes of standard deviations 0.4 and 1.5, turned."""
    axes = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=F64)
    covariance = axes @ torch.tensor([0.16, 2.25], dtype=F64).diag() @ axes.mT
    return GaussianMixture.gaussian(torch.tensor([0.7, -0.4], dtype=F64), (covariance + covariance.mT) / 2)


def marginal(process: Process, data: GaussianMixture, t) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of x_t for Gaussian data; data itself at 0."""
    level = process.grid(torch.as_tensor([t], dtype=F64))
    eye = torch.eye(data.means.shape[1], dtype=F64)
    return level.alpha * data.means[0], level.alpha**2 * data.covariances[0] + level.sigma**2 * eye


def moments(process: Process, data: GaussianMixture, table: Tableau, t) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of what ``table`` makes of the exact marginal at ``t``.

    Element 0 of the batch starts at the mean and sees no noise; then D elements each start one unit of a root of the
    covariance off, and D for each row see one unit of its noise. Outer products of the differences add up.
    """
    (mean, covariance), (R, D) = marginal(process, data, t), (len(table.times), data.means.shape[1])
    x = mean.repeat(1 + D * (1 + R), 1)
    x[1 : 1 + D] += torch.linalg.cholesky(covariance).mT

    def probe(draw, like):
        z = torch.zeros_like(like)
        z[1 + D * draw : 1 + D * (draw + 1)] = torch.eye(D, dtype=F64)
        return z

    out = run(ExactDenoiser(process, data), table, x, noise=probe)
    moved = out[1:] - out[0]
    return out[0], moved.mT @ moved


def even_in_logsnr(process: Process, steps: int, first: float = -5.0, last: float = 5.0) -> torch.Tensor:
    return process.schedule.time(torch.linspace(first, last, steps + 1, dtype=F64))


def errors(process: Process, make, steps: int, span: float = 5.0) -> tuple[float, float]:
    """(of the mean, of the variances relative to what they are, at most over the axes) at the end of a grid."""
    data, times = gaussian(), even_in_logsnr(process, steps, -span, span)
    mean, covariance = moments(process, data, make(process, times), times[0])
    exact_mean, exact = marginal(process, data, times[-1])
    whitened = torch.linalg.solve(torch.linalg.cholesky(exact), covariance)
    whitened = torch.linalg.solve(torch.linalg.cholesky(exact), whitened.mT)
    return float((mean - exact_mean).abs().max()), float((torch.linalg.eigvalsh(whitened) - 1).abs().max())


def shrinking(process: Process, times: torch.Tensor) -> Tableau:
    """Langevin moves as small as the steps: with moves of a fixed size the bias would stay."""
    return corrected(process, times, snr=1 / math.sqrt(len(times) - 1))


WEAK = {
    # The order, and the processes in which no step is wrong in the mean, whatever its size.
    "ancestral": (ancestral, 1, PROCESSES),
    "ancestral-beta": (functools.partial(ancestral, variance="beta"), 1, PROCESSES),
    "ddim-0.5": (functools.partial(ddim, eta=0.5), 1, PROCESSES),
    "ddim-1": (functools.partial(ddim, eta=1.0), 1, PROCESSES),
    "euler-maruyama": (euler_maruyama, 1, ("VE", "straight")),  # where alpha is linear in t
    "reverse-diffusion": (reverse_diffusion, 1, ("VE",)),  # where alpha does not change
    # Churn draws from q(x_t | x_s) and so leaves the marginals as they are: the error is Heun's.
    "heun-churn": (functools.partial(heun, churn=5.0), 2, PROCESSES),
    # On linear beliefs one order more than the noise allows in general.
    "2m-sde": (functools.partial(dpm_solver_pp, eta=1.0), 2, PROCESSES),
    "2m-sde-0.5": (functools.partial(dpm_solver_pp, eta=0.5), 2, PROCESSES),
    "3m-sde": (functools.partial(dpm_solver_pp, order=3, eta=1.0), 2, PROCESSES),
    "corrected": (shrinking, 1, PROCESSES),
}


@pytest.mark.parametrize("name", WEAK)
def test_weak_order_on_a_gaussian(name):
    make, order, exact_mean = WEAK[name]
    for units, process in PROCESSES.items():
        span = 5.0
        if name == "euler-maruyama":  # in its own time, and with large terms of second order in VE
            steps, span = (200, 1.5) if units == "VE" else (100, 5.0)
        elif name == "reverse-diffusion":  # a step of x itself, other in other units
            steps = 120
        elif units == "VP":
            steps = 160 if name == "3m-sde" else 60
        else:  # the same in all units
            assert errors(process, make, 20)[1] == pytest.approx(errors(PROCESSES["VP"], make, 20)[1], rel=1e-9)
            continue
        coarse, fine = (errors(process, make, N, span) for N in (steps, 2 * steps))
        assert math.log2(coarse[1] / fine[1]) == pytest.approx(order, abs=0.1)
        assert fine[1] < 0.06
        if units in exact_mean:
            assert max(coarse[0], fine[0]) < 1e-13
        else:
            assert math.log2(coarse[0] / fine[0]) == pytest.approx(order, abs=0.1)
            assert fine[0] < 0.01


def test_correcting_with_moves_of_a_fixed_size_ends_at_their_own_law():
    # With ever more moves per log-SNR all that counts is where they settle: V / (1 - (step / 4) sigma^2 / V), as
    # V = (1 - step sigma^2 / 2 V)^2 V + step sigma^2. The last predictor is off by one step of that.
    process, data, step, off = PROCESSES["VP"], gaussian(), 4 * 0.16**2, []
    for steps in (60, 120):
        times = even_in_logsnr(process, steps)
        sigma = process.level(times[-1]).sigma
        V = torch.linalg.eigvalsh(marginal(process, data, times[-1])[1])
        settled = V / (1 - step / 4 * sigma**2 / V)
        _, covariance = moments(process, data, corrected(process, times), times[0])
        off.append(float((torch.linalg.eigvalsh(covariance) / settled - 1).abs().max()))
    assert off[1] < 0.005
    assert off[1] < 0.7 * off[0]


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("v", [0.2, 1.0, 3.0])
@each_process
def test_the_optimal_variance_is_exact_at_any_number_of_steps_for_isotropic_data(process, steps, v):
    # Given x_t, x_s is Gaussian with the mean and the variance that the step has; to data it lacks Var(x_0 | x_t).
    data = GaussianMixture.gaussian(torch.tensor([0.5, -2.0], dtype=F64), v * torch.eye(2, dtype=F64))
    signs = torch.cartesian_prod(*[torch.tensor([1.0, -1.0], dtype=F64)] * 4)  # second moments without chance
    clean = data.means[0] + math.sqrt(v) * signs[:, :2]
    times = even_in_logsnr(process, steps)
    table = ancestral(
        process, times, posterior_spread(ExactDenoiser(process, data), clean, times[:-1], lambda *_: signs[:, 2:])
    )
    mean, covariance = moments(process, data, table, times[0])
    exact_mean, exact_covariance = marginal(process, data, times[-1])
    torch.testing.assert_close(mean, exact_mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(covariance, exact_covariance, rtol=1e-11, atol=1e-12)
    times = torch.cat((times, times.new_zeros(1)))
    spread = posterior_spread(ExactDenoiser(process, data), clean, times[:-1], lambda *_: signs[:, 2:])
    _, covariance = moments(process, data, ancestral(process, times, spread), times[0])
    torch.testing.assert_close(covariance, (v - spread[-1]) * torch.eye(2, dtype=F64), rtol=1e-10, atol=1e-12)


@each_process
def test_the_optimal_variance_is_right_on_average_over_the_axes_of_other_data(process):
    # One number for all axes: the trace of a single step is exact, its parts are not.
    data, times = gaussian(), even_in_logsnr(process, 3)[1:3]
    level = process.level(times[:1])
    variances = torch.linalg.eigvalsh(data.covariances[0])
    spread = (variances * level.sigma**2 / (level.alpha**2 * variances + level.sigma**2)).mean()[None]
    _, covariance = moments(process, data, ancestral(process, times, spread), times[0])
    _, exact = marginal(process, data, times[-1])
    assert float(covariance.trace()) == pytest.approx(float(exact.trace()), rel=1e-12)
    assert float((covariance - exact).abs().max()) > 0.01 * float(exact.trace())


# --- Langevin, by probing ---------------------------------------------------------------------------------------------


@each_process
@pytest.mark.parametrize(("step", "repeats"), [(0.1, 1), (0.1, 300), (1.0, 3), (1.0, 40), (3.0, 2), (3.0, 50)])
def test_for_one_data_point_langevins_variance_settles_as_stated(process, step, repeats):
    point = GaussianMixture.gaussian(torch.tensor([1.5], dtype=F64), torch.zeros(1, 1, dtype=F64))
    sigma = float(process.level(0.4).sigma)
    mean, covariance = moments(process, point, langevin(process, 0.4, repeats, step), 0.4)
    settled = sigma**2 / (1 - step / 4)
    # From sigma^2, a move keeps (1 - step / 2)^2 of the distance: 4e-14 are left of it after 300, 0 after 40 or 50.
    expected = settled + (1 - step / 2) ** (2 * repeats) * (sigma**2 - settled)
    assert float(covariance) == pytest.approx(expected, rel=1e-11)
    if repeats >= 40:
        assert float(covariance) == pytest.approx(settled, rel=1e-11)
    torch.testing.assert_close(mean, marginal(process, point, 0.4)[0], rtol=1e-12, atol=1e-12)


# --- Two-sample tests -------------------------------------------------------------------------------------------------

COUNT, LEVEL, FREEDOM = 13_000, 1e-3, 2 + 15
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
MEANS = torch.tensor([[1.5, 0.0], [-1.0, 1.2], [-0.5, -1.5]], dtype=F64)
# Standard deviations 0.3 and 0.2 along turned axes; 0.25 for both; 0.15 and 0.35.
COVARIANCES = torch.tensor(
    [[[0.065, 0.025], [0.025, 0.065]], [[0.0625, 0.0], [0.0, 0.0625]], [[0.0225, 0.0], [0.0, 0.1225]]], dtype=F64
)


MIXTURE = GaussianMixture(WEIGHTS, MEANS, COVARIANCES)


def features(x: torch.Tensor, law: GaussianMixture) -> tuple[torch.Tensor, torch.Tensor]:
    """(K,) counts of the likeliest components, and (K, 5) means of the features of what is standardised there."""
    roots = torch.linalg.cholesky(law.covariances)
    u = torch.linalg.solve_triangular(roots, (x[:, None] - law.means).movedim(0, 2), upper=False)  # (K, 2, B)
    log_density = (
        law.weights.log()[:, None] - roots.diagonal(dim1=1, dim2=2).log().sum(1)[:, None] - 0.5 * (u**2).sum(1)
    )
    likeliest = log_density.argmax(0)
    counts = torch.bincount(likeliest, minlength=len(law.weights))
    rows = []
    for k in range(len(law.weights)):
        a, b = u[k][:, likeliest == k]
        rows.append(torch.stack((a, b, a * a, b * b, a * b)).mean(1))
    return counts, torch.stack(rows)


@functools.lru_cache(maxsize=4)
def exact(law: GaussianMixture) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of twenty exact draws for each sample."""
    return features(law.sample(20 * COUNT, torch.Generator().manual_seed(99)), law)


def p_value(x: torch.Tensor, law: GaussianMixture) -> float:
    """Of samples against exact draws of ``law``."""
    (n, f), (m, g) = features(x, law), exact(law)
    counts = float(stats.chi2_contingency(torch.stack((n, m)).numpy(), correction=False)[0])
    variance = torch.tensor([1.0, 1.0, 2.0, 2.0, 1.0], dtype=F64) * (1 / n + 1 / m)[:, None]
    return float(stats.chi2.sf(counts + float(((f - g) ** 2 / variance).sum()), FREEDOM))


def wrong(what: str) -> GaussianMixture:
    weights, means, covariances = WEIGHTS.clone(), MEANS.clone(), COVARIANCES.clone()
    if what == "weight":
        weights[1] *= 1.1
        weights[[0, 2]] *= (1 - weights[1]) / (weights[0] + weights[2])
    elif what == "width":
        covariances[2, 1, 1] *= 1.1**2
    else:
        means[2, 1] += 0.15 * COVARIANCES[2, 1, 1].sqrt()
    return GaussianMixture(weights, means, covariances)


def draws(law: GaussianMixture, seed: int) -> torch.Tensor:
    return law.sample(COUNT, torch.Generator().manual_seed(seed))


def rejected(law: GaussianMixture, times: int) -> float:
    return sum(p_value(draws(law, seed), MIXTURE) < LEVEL for seed in range(times)) / times


@pytest.mark.parametrize("what", ["weight", "width", "place"])
def test_the_test_has_its_stated_power(what):
    # Of 100 rejections with probability 0.98 each, fewer than 94 would be seen once in 250 times.
    assert rejected(wrong(what), 100) >= 0.94


def test_the_test_has_its_stated_level():
    values = [p_value(draws(MIXTURE, s), MIXTURE) for s in range(100)]
    assert stats.kstest(values, "uniform").pvalue > LEVEL
    assert min(values) > LEVEL / 10


def sampled(process: Process, table: Tableau, start: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)

    def noise(draw, like):
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    x = process.prior(start).sample(noise(0, torch.zeros(COUNT, 2, dtype=F64)))
    return run(ExactDenoiser(process, MIXTURE), table, x, noise=noise)


def known(process: Process, table: Tableau, start: float) -> GaussianMixture:
    """The mixture of what ``table`` makes of each component alone, exactly: where components are not yet told apart,
    the levels are so high that little of what happens there is left in the end.
    """
    parts = [
        moments(process, GaussianMixture.gaussian(mean, covariance), table, start)
        for mean, covariance in zip(MEANS, COVARIANCES, strict=True)
    ]
    return GaussianMixture(WEIGHTS, torch.stack([mean for mean, _ in parts]), torch.stack([c for _, c in parts]))


def widths(law: GaussianMixture) -> torch.Tensor:
    """Standard deviations along the coordinates, relative to what they should be, less one."""
    return (law.covariances / COVARIANCES).diagonal(dim1=1, dim2=2).sqrt() - 1


BIAS = {
    # How much too wide components are after 100 even steps of a cosine schedule or EDM's grid, at least and at most.
    "ancestral": (-0.10, -0.04),
    "ancestral-beta": (0.01, 0.04),
    "euler-maruyama": (0.0, 0.01),
    "reverse-diffusion": (0.02, 0.04),
    "pc": (0.01, 0.03),
    "pc-ddim": (-0.03, -0.005),
    "langevin": (0.1, 0.11),
    "edm-churn": (0.02, 0.03),
    "dpm++2m-sde": (0.01, 0.02),
    "dpm++3m-sde": (-0.002, 0.002),
}


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.order is None])
def test_a_hundred_steps_sample_the_mixture_with_the_bias_that_they_have(name):
    """Against exact draws of the law that each is known to have, and of the mixture where that is within 1 % of it.

    A bias of 2 % in all widths at once is as far as 10 % in one, and the test sees it: ``ancestral`` (5 to 9 % too
    narrow), its ``beta`` and ``reverse-diffusion`` (2 to 4 % too wide), which ``pc`` corrects to 1 to 3 %, ``pc-ddim``
    (1 to 3 % too narrow), ``edm-churn`` (2.5 % too wide) and ``dpm++2m-sde`` (1.5 % too wide) are compared with their
    own laws alone. ``langevin`` freezes once sigma is below a component's own width, as its moves are relative to
    sigma: at 5 moves a level components are 11 % too wide, with a law that depends on where the components were told
    apart.
    """
    process, method = PROCESSES["VP"], METHODS[name]
    times = method.times(process, 100)
    table = method.table(process, times)
    law = known(process, table, float(times[0]))
    low, high = BIAS[name]
    assert low <= float(widths(law).min())
    assert float(widths(law).max()) <= high
    torch.testing.assert_close(law.means, MEANS, rtol=0, atol=0.005)
    if name == "langevin":
        return
    x = sampled(process, table, float(times[0]))
    assert p_value(x, law) > LEVEL
    if name in ("euler-maruyama", "dpm++3m-sde"):
        assert p_value(x, MIXTURE) > LEVEL


FAULTS = {
    "noise 10 % up": lambda table: dataclasses.replace(table, noise=1.1 * table.noise),
    "noise of the ODE's own drift": lambda table: dataclasses.replace(table, noise=0.5**0.5 * table.noise),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_the_test_sees_faulty_samplers(fault):
    process, method = PROCESSES["VP"], METHODS["dpm++3m-sde"]
    times = method.times(process, 100)
    table = method.table(process, times)
    x = sampled(process, fault(table), float(times[0]))
    assert p_value(x, MIXTURE) < 1e-6
    assert p_value(x, known(process, table, float(times[0]))) < 1e-6


@each_process
def test_langevin_leaves_the_marginal_of_its_level_in_place(process):
    # At sigma / alpha = 0.2. Moves of 0.05 settle at variances up to 0.0125 sigma^2 / V, here 0.8 %, above V.
    t = float(process.schedule.time(torch.tensor(-2 * math.log(0.2), dtype=F64)))
    level = process.level(t)
    law = GaussianMixture(
        WEIGHTS, level.alpha * MEANS, level.alpha**2 * COVARIANCES + level.sigma**2 * torch.eye(2, dtype=F64)
    )
    generator = torch.Generator().manual_seed(1)
    x = law.sample(COUNT, generator)
    table = langevin(process, t, 100, 0.05)

    def noise(draw, like):
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    assert p_value(x, law) > LEVEL
    got = run(ExactDenoiser(process, MIXTURE), table, x, noise=noise)
    assert p_value(got, law) > LEVEL
    assert float((got - x).pow(2).mean()) > float(level.sigma) ** 2  # it did move
    if isinstance(process.scaling, VP):  # what the test would see: the noise of half a move
        faulty = dataclasses.replace(table, noise=table.noise / 2**0.5)
        assert p_value(run(ExactDenoiser(process, MIXTURE), faulty, x, noise=noise), law) < 1e-6
