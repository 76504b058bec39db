"""DDIM's inversion: the latent of a state, to any accuracy, and what the usual shortcut gives instead."""

from itertools import pairwise

import pytest
import torch

from sfumato.core import VE, VP, Cosine, LinearLogSNR, Logistic, Process, Straight, Tabulated, linear_betas
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.sampling import chain, ddim, ddim_inversion, grids, run, uniform

F64 = torch.float64
MIXTURE = GaussianMixture(
    torch.tensor([0.5, 0.3, 0.2], dtype=F64),
    torch.tensor([[1.2, 0.0], [-0.8, 0.9], [-0.4, -1.2]], dtype=F64),
    torch.tensor([[[0.8, 0.3], [0.3, 0.6]], [[0.5, 0.0], [0.0, 1.0]], [[0.6, 0.0], [0.0, 0.6]]], dtype=F64),
)
COSINE = Process(VP(), Cosine())
CHAIN = Process(VP(), Tabulated(linear_betas(1000)))
EDM = Process(VE(), LinearLogSNR(-8.76, 12.4))
STRAIGHT = Process(Straight(), Logistic())
RUNS = {
    "VP, a step from hardly any signal": (COSINE, uniform(20)),
    "chain": (CHAIN, chain(20, 1000)),
    "VE on rho's grid": (EDM, grids.rho(EDM, 20)),
    "straight": (STRAIGHT, uniform(20, 0.9)),
    "straight, from pure noise": (STRAIGHT, uniform(20)),
    "above data": (CHAIN, chain(20, 1000)[:-2]),
    "straight, above data": (STRAIGHT, uniform(20)[:-3]),
}
each_run = pytest.mark.parametrize(("process", "times"), RUNS.values(), ids=RUNS.keys())


def start(process, times) -> tuple[torch.Tensor, float]:
    """States of the first level, and their scale."""
    level = process.level(times[0])
    scale = float(torch.hypot(level.alpha, level.sigma))
    return scale * torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=F64), scale


@each_run
def test_the_latent_comes_back_and_geometrically(process, times):
    denoiser, (x, scale) = ExactDenoiser(process, MIXTURE), start(process, times)
    end = run(denoiser, ddim(process, times), x)
    errors = []
    for iterations in (4, 8, 12, 30):
        tableau = ddim_inversion(process, times, iterations)
        assert tableau.evaluations == iterations * (len(times) - 1)
        assert not tableau.stochastic
        errors.append(float((run(denoiser, tableau, end) - x).abs().max()) / scale)
    # Four more iterations take at least a factor of ten, down to rounding.
    for before, after in pairwise(errors):
        assert after < max(before / 10, 1e-12)
    assert errors[-1] < 1e-9


def naive(denoiser, process, times, x):
    """eps taken where the step starts from, not where it leads: what is usually called DDIM inversion."""
    for i in reversed(range(len(times) - 1)):
        at_t, at_s = process.level(times[i]), process.grid(times[i + 1 : i + 2])
        # There is no eps at data itself; the first level's clock time stands in.
        eps = denoiser(x, times[i + 1] if times[i + 1] > 0 else times[i], None).eps
        x = at_t.alpha / at_s.alpha * x + at_t.alpha * (at_t.ratio - at_s.ratio) * eps
    return x


def test_the_usual_shortcut_is_off_by_orders_of_magnitude_more():
    process, times = RUNS["chain"]
    denoiser, (x, _) = ExactDenoiser(process, MIXTURE), start(process, times)
    end = run(denoiser, ddim(process, times), x)
    shortcut = float((naive(denoiser, process, times, end) - x).abs().max())
    exact = float((run(denoiser, ddim_inversion(process, times), end) - x).abs().max())
    assert shortcut > 1e-2
    assert exact < 1e-6


def test_one_step_on_a_gaussian_by_hand():
    # Linear beliefs: x_s = c x_t, so that x_t = x_s / c, whichever way it is iterated.
    gaussian = GaussianMixture.gaussian(torch.zeros(1, dtype=F64), torch.eye(1, dtype=F64))
    denoiser, x = ExactDenoiser(COSINE, gaussian), torch.tensor([[0.7]], dtype=F64)
    for times in (torch.tensor([0.4, 0.2], dtype=F64), torch.tensor([0.9, 0.7], dtype=F64)):
        t, s = (COSINE.level(time) for time in times)
        # Of unit variance: x_0-hat = alpha x, eps = sigma x.
        c = s.alpha * t.alpha + s.sigma * t.sigma
        got = run(denoiser, ddim_inversion(COSINE, times, 60), x)
        torch.testing.assert_close(got, x / c, rtol=1e-12, atol=0)


def test_rows_evaluate_only_at_levels_of_the_grid_from_data_up():
    times = uniform(4)
    tableau = ddim_inversion(COSINE, times, 2)
    asked = tableau.times[~tableau.times.isnan()]
    assert asked.tolist() == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0]
    assert tableau.name == "ddim_inversion(iterations=2)"
