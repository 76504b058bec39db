"""Samplers beside diffusers' schedulers: the same levels, network and noise.

Its schedulers step by their public loop, ``step(model_output, timestep, sample)``. Their level tables are float32,
which bounds the agreement: 1e-4 of a state of order one. Where they differ, a test says why, and Gaussian data decides.
"""

import math
import warnings

import pytest
import torch

from sfumato.core import VP, Prediction, Process, Tabulated, linear_betas
from sfumato.denoisers import Denoiser, ExactDenoiser, GaussianMixture
from sfumato.sampling import Tableau, adams, ancestral, chain, ddim, dpm_solver_pp, heun, run, unipc

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import warns, by platform and version, of things that no scheduler needs
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")

T = 1000
PROCESS = Process(VP(), Tabulated(linear_betas(T).float().double()))
COMMON = {"trained_betas": linear_betas(T).float().tolist(), "prediction_type": "epsilon"}
F64 = torch.float64


class Wave(Denoiser):
    """A belief about eps, nonlinear in x and in the level, that mixes the elements of a sample."""

    process = PROCESS

    def forward(self, x_t, t, cond=None):
        level = self.process.level(t)
        eps = wave(x_t, level.logsnr)
        return Prediction((x_t - level.sigma * eps) / level.alpha, eps)


def wave(x, logsnr):
    mixed = x + 0.3 * x.roll(1, -1) * torch.cos(x) + torch.sin(0.3 * logsnr)
    return x * torch.sigmoid(-logsnr / 2) + 0.1 * torch.tanh(mixed)


def start() -> torch.Tensor:
    return torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=F64)


def draws(rows: int):
    """Draw i of the run's noise, for both sides."""
    table = torch.randn(rows + 2, 2, 1, 3, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    return lambda draw, like: table[draw].to(like.dtype)


def network_at(k: int, x: torch.Tensor) -> torch.Tensor:
    """eps at level k = 1..T of the chain, timestep k - 1 over there."""
    return wave(x, PROCESS.level(k / T).logsnr)


def theirs(scheduler, x, eps=network_at, **each) -> torch.Tensor:
    """The public loop; ``each``: arguments of ``step`` as functions of its number."""
    for i, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, timestep)
        out = eps(round(float(timestep)) + 1, scaled)
        x = scheduler.step(out, timestep, x, **{name: value(i) for name, value in each.items()}).prev_sample
    return x


def times_of(scheduler, to_data: bool = True) -> torch.Tensor:
    """Our times of its timesteps, and then data, or the first level."""
    timesteps = dict.fromkeys(round(float(t)) + 1 for t in scheduler.timesteps)  # Heun lists each twice
    return torch.tensor([*timesteps, 0 if to_data else 1], dtype=F64) / T


def close(got, expected) -> None:
    assert float((got - expected).abs().max()) < 1e-4


SPACINGS = {"leading": {"steps_offset": 0}, "trailing": {}, "linspace": {}}


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 5, 10, 50, 300])
def test_chain_visits_the_levels_of_set_timesteps(spacing, steps):
    if spacing == "linspace" and steps == 1:
        pytest.skip("it starts and ends at the first level there, which denoises pure noise as if it were data")
    scheduler = diffusers.DDIMScheduler(**COMMON, timestep_spacing=spacing, **SPACINGS[spacing])
    scheduler.set_timesteps(steps)
    ours = (chain(steps, T, spacing) * T).round().long().tolist()
    levels = [int(t) + 1 for t in scheduler.timesteps]
    assert len(levels) == steps
    # numpy rounds a half to even, ours goes up: one level apart, where that happens.
    assert max(abs(a - b) for a, b in zip(ours, levels, strict=False)) <= (0 if steps != 300 else 1)
    assert ours[-1] == 0


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize(("variance", "name"), [("posterior", "fixed_small"), ("beta", "fixed_large")])
def test_ancestral_is_ddpm(monkeypatch, steps, variance, name):
    scheduler = diffusers.DDPMScheduler(**COMMON, variance_type=name, clip_sample=False, timestep_spacing="leading")
    scheduler.set_timesteps(steps)
    noise, rows = draws(steps), iter(range(1, steps + 1))
    module = __import__("diffusers.schedulers.scheduling_ddpm", fromlist=["randn_tensor"])
    monkeypatch.setattr(module, "randn_tensor", lambda shape, **_: noise(next(rows), start()))
    expected = theirs(scheduler, start())
    got = run(Wave(), ancestral(PROCESS, times_of(scheduler), variance), start(), noise=noise)
    # Its last step goes from timestep 0 to data, and so does ours.
    close(got, expected)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [4, 20])
def test_ddim(eta, steps):
    scheduler = diffusers.DDIMScheduler(**COMMON, clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    noise = draws(steps)
    expected = theirs(scheduler, start(), eta=lambda i: eta, variance_noise=lambda i: noise(i + 1, start()))
    close(run(Wave(), ddim(PROCESS, times_of(scheduler), eta), start(), noise=noise), expected)


@pytest.mark.parametrize("steps", [6, 20])
@pytest.mark.parametrize("to_data", [True, False])
def test_dpm_solver_pp_2m(steps, to_data):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **COMMON,
        timestep_spacing="trailing",
        lower_order_final=False,
        final_sigmas_type="zero" if to_data else "sigma_min",
    )
    scheduler.set_timesteps(steps)
    got = run(Wave(), dpm_solver_pp(PROCESS, times_of(scheduler, to_data)), start())
    close(got, theirs(scheduler, start()))


@pytest.mark.parametrize("steps", [6, 20])
def test_dpm_solver_pp_2m_sde(steps):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **COMMON, timestep_spacing="trailing", lower_order_final=False, algorithm_type="sde-dpmsolver++"
    )
    scheduler.set_timesteps(steps)
    noise = draws(steps)
    expected = theirs(scheduler, start(), variance_noise=lambda i: noise(i + 1, start()))
    close(run(Wave(), dpm_solver_pp(PROCESS, times_of(scheduler), eta=1.0), start(), noise=noise), expected)


@pytest.mark.parametrize("steps", [6, 20])
@pytest.mark.parametrize("order", [2, 3])
def test_unipc(steps, order):
    scheduler = diffusers.UniPCMultistepScheduler(
        **COMMON,
        timestep_spacing="trailing",
        solver_order=order,
        solver_type="bh2",
        lower_order_final=False,
        final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(steps)
    got = run(Wave(), unipc(PROCESS, times_of(scheduler, False), order), start())
    close(got, theirs(scheduler, start()))


@pytest.mark.parametrize("steps", [6, 20])
def test_unipc_2_to_data(steps):
    # Over there the last step is of order 1 when it goes to data, as it is here.
    scheduler = diffusers.UniPCMultistepScheduler(**COMMON, timestep_spacing="trailing", solver_order=2)
    scheduler.set_timesteps(steps)
    close(run(Wave(), unipc(PROCESS, times_of(scheduler), 2), start()), theirs(scheduler, start()))


@pytest.mark.parametrize("steps", [6, 20])
def test_heun(steps):
    scheduler = diffusers.HeunDiscreteScheduler(**COMMON, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    alpha = PROCESS.level(1.0).alpha  # x / alpha over there
    expected = theirs(scheduler, start() / alpha)
    close(run(Wave(), heun(PROCESS, times_of(scheduler)), start()), expected)


@pytest.mark.parametrize("steps", [6, 20])
@pytest.mark.parametrize("order", [2, 3])
def test_deis(steps, order):
    # Its "logrho": exact integrals of eps over rho, as polynomials in log rho.
    scheduler = diffusers.DEISMultistepScheduler(
        **COMMON, timestep_spacing="trailing", solver_order=order, lower_order_final=False
    )
    scheduler.set_timesteps(steps)
    times = times_of(scheduler, False)
    got = run(Wave(), adams(PROCESS, times, order, "eps", corrector=False), start())
    close(got, theirs(scheduler, start()))


# --- Where the two differ ---------------------------------------------------------------------------------------------


def halved_3m(lams, alphas, sigmas, x, belief):
    """DPM-Solver++ 3M as diffusers and the authors' own code have it, in float64.

    x_0(u) = m_0 + D_1 u + D_2 u^2 in the share u of the step has the weight h int exp(-(1 - u) h) u^2 du for D_2; there
    D_2, a divided difference and so half a second derivative, is given half of that, the weight of a whole one.
    """
    seen = []
    for i in range(len(lams) - 1):
        seen.append(belief(x, i))
        h = lams[i + 1] - lams[i]
        first = 1 - math.exp(-h)
        second = 1 - first / h
        half = 0.5 * (1 - 2 * second / h)
        push = first * seen[-1]
        if i == 1:
            push = push + 0.5 * first * (seen[-1] - seen[-2]) * h / (lams[1] - lams[0])
        if i >= 2:
            r0, r1 = (lams[i] - lams[i - 1]) / h, (lams[i - 1] - lams[i - 2]) / h
            d0, d1 = (seen[-1] - seen[-2]) / r0, (seen[-2] - seen[-3]) / r1
            bent = (d0 - d1) / (r0 + r1)
            push = push + second * (d0 + r0 * bent) + half * bent
        x = sigmas[i + 1] / sigmas[i] * x + alphas[i + 1] * push
    return x


def levels_of(times):
    level = PROCESS.level(times)
    return (level.logsnr / 2).tolist(), level.alpha.tolist(), level.sigma.tolist()


def scheduler_3m(steps: int, **options):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **COMMON,
        timestep_spacing="trailing",
        solver_order=3,
        lower_order_final=False,
        final_sigmas_type="sigma_min",
        **options,
    )
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("steps", [6, 20])
def test_3m_differs_by_the_halved_second_difference_alone(steps):
    scheduler = scheduler_3m(steps)
    times = times_of(scheduler, False)
    expected = theirs(scheduler, start())
    denoiser = Wave()
    lams, alphas, sigmas = levels_of(times)
    close(halved_3m(lams, alphas, sigmas, start(), lambda x, i: denoiser(x, times[i]).x_0), expected)
    # And ours, with the exact weight, is another method.
    assert float((run(denoiser, dpm_solver_pp(PROCESS, times, 3), start()) - expected).abs().max()) > 1e-3


GAUSSIAN = GaussianMixture.gaussian(
    torch.tensor([1.0, -0.5, 0.3], dtype=F64), torch.tensor([0.4, 1.0, 2.0], dtype=F64).diag()
)


def standardised(level) -> torch.Tensor:
    """64 points of one probability flow, at a level."""
    z = torch.randn(64, 3, generator=torch.Generator().manual_seed(2), dtype=F64)
    variances = GAUSSIAN.covariances[0].diagonal()
    return level.alpha * GAUSSIAN.means[0] + torch.sqrt(level.alpha**2 * variances + level.sigma**2) * z


def even(steps: int) -> torch.Tensor:
    """Even log-SNRs from where x_0-hat is nearly constant to -1, where it moves."""
    return PROCESS.schedule.time(torch.linspace(-9, -1, steps + 1, dtype=F64))


def slope(steps, errors) -> float:
    return math.log(errors[0] / errors[-1]) / math.log(steps[-1] / steps[0])


def rms(x) -> float:
    return float(x.pow(2).mean().sqrt())


def test_closed_form_on_3m_ours_has_order_3_and_the_halved_one_2():
    steps, ours, halved, scheduled = [80, 320], [], [], []
    denoiser = ExactDenoiser(PROCESS, GAUSSIAN)
    for N in steps:
        times = even(N)
        first, last = PROCESS.level(times[0]), PROCESS.level(times[-1])
        x, truth = standardised(first), standardised(last)
        ours.append(rms(run(denoiser, dpm_solver_pp(PROCESS, times, 3), x) - truth))
        lams, alphas, sigmas = levels_of(times)
        halved.append(rms(halved_3m(lams, alphas, sigmas, x, lambda y, i, t=times: denoiser(y, t[i]).x_0) - truth))
        # The scheduler itself, on these levels: its loop counts timesteps, its levels are its sigmas.
        scheduler = scheduler_3m(N)
        scheduler.sigmas = PROCESS.level(times).ratio
        y = x
        for i in range(N):
            timestep = scheduler.timesteps[i]
            y = scheduler.step(denoiser(y, times[i]).eps, timestep, y).prev_sample
        scheduled.append(rms(y - truth))
    assert slope(steps, ours) == pytest.approx(3, abs=0.2)
    assert slope(steps, halved) == pytest.approx(2, abs=0.2)
    # Float32 states inside: 1e-6 at best.
    assert scheduled == pytest.approx(halved, abs=3e-6)
    assert ours[-1] < halved[-1] / 4


def moments(times, step_table) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance, by unit probes, of an affine sampler from the exact marginal; see test_gaussian_flow."""
    level, rows = PROCESS.level(times[0]), len(times) - 1
    variances = GAUSSIAN.covariances[0].diagonal()
    x = (level.alpha * GAUSSIAN.means[0]).repeat(2 + rows, 1)
    x[1] += torch.sqrt(level.alpha**2 * variances + level.sigma**2)

    def probe(draw, like):
        z = torch.zeros_like(like)
        z[1 + draw] = 1
        return z

    out = step_table(x, probe)
    return out[0], ((out[1:] - out[0]) ** 2).sum(0)


def test_closed_form_on_the_sde_form_of_3m():
    # Over there the weight of D_2 in the SDE form has the wrong sign in its last term: -1/2 for +1/2, so that it tends
    # to -1 instead of 0 for small steps: its variance converges at order 1, ours at 2 and better.
    denoiser, steps, errors = ExactDenoiser(PROCESS, GAUSSIAN), [40, 160], {"ours": [], "theirs": []}
    for N in steps:
        times = even(N)
        last = PROCESS.level(times[-1])
        truth = last.alpha**2 * GAUSSIAN.covariances[0].diagonal() + last.sigma**2

        def ours(x, probe, times=times):
            return run(denoiser, dpm_solver_pp(PROCESS, times, 3, 1.0), x, noise=probe)

        def scheduled(x, probe, times=times, N=N):
            scheduler = scheduler_3m(N, algorithm_type="sde-dpmsolver++")
            scheduler.sigmas = PROCESS.level(times).ratio
            for i in range(N):
                z = probe(i + 1, x)
                x = scheduler.step(denoiser(x, times[i]).eps, scheduler.timesteps[i], x, variance_noise=z).prev_sample
            return x

        for name, sampler in (("ours", ours), ("theirs", scheduled)):
            errors[name].append(float((moments(times, sampler)[1] / truth - 1).abs().max()))
    assert slope(steps, errors["ours"]) > 1.8
    assert slope(steps, errors["theirs"]) == pytest.approx(1, abs=0.25)
    assert errors["ours"][-1] < errors["theirs"][-1] / 4


def test_unipc_3_over_there_lowers_its_order_before_data():
    # Its last step to data is of order 1, as ours; the one before has order 2 there ("lower_order_final"), 3 here. With
    # the predictor of that row replaced by the one of order 2, which is DPM-Solver++ 2M's, ours is theirs.
    scheduler = diffusers.UniPCMultistepScheduler(**COMMON, timestep_spacing="trailing", solver_order=3)
    scheduler.set_timesteps(12)
    expected = theirs(scheduler, start())
    times = times_of(scheduler)
    three, two_m, three_m = unipc(PROCESS, times, 3), dpm_solver_pp(PROCESS, times, 2), dpm_solver_pp(PROCESS, times, 3)
    estimates = three.estimates.clone()
    estimates[10] += two_m.estimates[10] - three_m.estimates[10]
    close(run(Wave(), Tableau(three.times, three.states, estimates, three.noise), start()), expected)
    assert float((run(Wave(), three, start()) - expected).abs().max()) > 1e-4


def test_trailing_ddim_over_there_ends_where_it_says():
    # With set_alpha_to_one=False its last step stops at the first level, with ours on the same grid.
    scheduler = diffusers.DDIMScheduler(
        **COMMON, clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=False
    )
    scheduler.set_timesteps(8)
    close(run(Wave(), ddim(PROCESS, times_of(scheduler, False)), start()), theirs(scheduler, start()))


def test_rho_grid_is_karras_sigmas():
    from sfumato.sampling import grids

    scheduler = diffusers.HeunDiscreteScheduler(**COMMON, use_karras_sigmas=True)
    scheduler.set_timesteps(9)
    sigmas = scheduler.sigmas[[0, *range(1, 17, 2), 17]].double()
    times = grids.rho(PROCESS, 9)
    got = PROCESS.grid(times).ratio
    # 1 - alpha-bar of its first level is 1e-4 to float32's 6e-8: 3e-4 of the smallest sigma.
    torch.testing.assert_close(got, sigmas, rtol=5e-4, atol=1e-9)
