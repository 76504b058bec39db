"""Fitting a tableau: its derivatives against autograd, what it gains on unseen data, going on after a stop."""

import math

import pytest
import torch
from torch import nn

from sfumato.core import VP, Cosine, Prediction, Process, Tabulated, V, linear_betas
from sfumato.denoisers import Condition, Denoiser, ExactDenoiser, GaussianMixture, NetworkDenoiser
from sfumato.errors import InputError
from sfumato.sampling import Tableau, adams, ancestral, grids, run, uniform
from sfumato.sampling.fitting import Errors, FitState, Trajectories, check_budget, count_for, fit_tableau, trajectories
from sfumato.sampling.fitting.derivatives import gradient, sensitivities
from sfumato.sampling.fitting.parameters import Parametrisation
from sfumato.sampling.methods import auto

CHAIN = Process(VP(), Tabulated(linear_betas(1000)))
CURVED = Process(VP(), Cosine())


def three(process: Process = CHAIN) -> ExactDenoiser:
    """Three modes of unequal weight and width in the plane."""
    means = torch.tensor([[-1.0, 0.3], [0.8, 0.9], [0.4, -1.1]], dtype=torch.float64)
    covariances = torch.stack([std**2 * torch.eye(2, dtype=torch.float64) for std in (0.1, 0.2, 0.3)])
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return ExactDenoiser(process, GaussianMixture(weights, means, covariances))


class Net(nn.Module):
    """A small smooth network of a picture and a label."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x, label):
        return self.last(torch.nn.functional.silu(self.first(x)) * (1 + torch.sin(label / 300)[:, None, None, None]))


def network() -> NetworkDenoiser:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return NetworkDenoiser(Net().double(), CURVED, V(), "logsnr").requires_grad_(False)


@pytest.mark.parametrize("make", [auto, lambda p, n: adams(p, grids.rho(p, n), order=4, along="sigma")])
@pytest.mark.parametrize("process", [CHAIN, CURVED])
def test_a_table_written_out_is_the_same_sampler(process, make):
    denoiser, table = three(process), make(process, 7)
    form = Parametrisation(table, 0.0)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    again = form.table(form.initial)
    assert again.start == table.start
    assert again.evaluations == table.evaluations
    # The first level is below the start by a step that is 1e-6 of the way.
    torch.testing.assert_close(again.times[1:], table.times, rtol=2e-6, atol=2e-6)
    # States grow by 1 / sigma along "sigma", and are written out in the first.
    torch.testing.assert_close(run(denoiser, again, x), run(denoiser, table, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("denoiser", [three(), three(CURVED), network()], ids=["chain", "cosine", "network"])
def test_the_derivatives_of_a_run_are_those_of_autograd(denoiser):
    shape = (1, 4, 4) if isinstance(denoiser, NetworkDenoiser) else (2,)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    form = Parametrisation(auto(denoiser.process, 4), 0.001)
    vector = form.initial + 0.01 * torch.randn(
        len(form.initial), generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )

    def end(vector: torch.Tensor) -> torch.Tensor:
        n = form.n
        shares = torch.softmax(vector[: n + 1], 0)
        times = [0.001 + (form.start - 0.001) * shares[r + 1 :].sum() for r in range(n)]
        place, hats, state = 2 * n + 2, [], vector[n + 1] * x
        for r in range(n):
            hats.append(denoiser(state, times[r]).x_0)
            state = vector[n + 2 + r] * x
            for hat in hats:
                state = state + vector[place] * hat
                place += 1
        return state

    expected = torch.autograd.functional.jacobian(end, vector)
    got_end, got = sensitivities(denoiser, form, vector, x)
    torch.testing.assert_close(got_end, end(vector), rtol=1e-12, atol=1e-12)
    # A network is told its label in float32, whose derivative is rounded there.
    loose = isinstance(denoiser, NetworkDenoiser)
    tolerance = {"rtol": 1e-5, "atol": 1e-7} if loose else {"rtol": 1e-8, "atol": 1e-10}
    torch.testing.assert_close(got, expected.movedim(-1, 0), **tolerance)
    goal, weights = torch.zeros_like(x), torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    pull = weights.reshape(-1, *[1] * len(shape)) * (got_end - goal) / math.prod(shape)
    back = gradient(denoiser, form, vector, x, goal, weights)
    torch.testing.assert_close(back, (got * pull).flatten(1).sum(1), **tolerance)


def test_a_fit_is_far_closer_than_its_start_on_trajectories_it_has_not_seen():
    denoiser = three()
    fresh = trajectories(denoiser, (2,), 512, seed=5)
    fit = fit_tableau(denoiser, 5, trajectories(denoiser, (2,), 600))
    assert fit.kept
    assert fit.tableau.evaluations == 5
    assert not fit.tableau.stochastic
    found = Errors.between(run(denoiser, fit.tableau, fresh.x), fresh.x_0)
    usual = Errors.between(run(denoiser, auto(CHAIN, 5), fresh.x), fresh.x_0)
    assert found.median < usual.median / 3
    assert found.rms < usual.rms / 2
    # What it says of itself, on other samples: root mean squares of 200 heavy-tailed distances vary by some tens of %.
    assert fit.errors.median == pytest.approx(found.median, rel=0.4)
    assert fit.classical.median == pytest.approx(usual.median, rel=0.4)


def test_a_chain_is_not_visited_below_its_first_level():
    denoiser = three()
    fit = fit_tableau(denoiser, 6, trajectories(denoiser, (2,), 90), iterations=8)
    times = fit.tableau.times[~fit.tableau.times.isnan()]
    assert len(times) == 6
    assert 1 / 1000 <= times.min() < times.max() <= 1
    assert (times.diff() < 0).all()
    assert fit.tableau.start == 1


def test_going_on_from_any_iteration_ends_at_the_same_table():
    denoiser = three()
    paths = trajectories(denoiser, (2,), 60)
    stops: list[FitState] = []
    whole = fit_tableau(denoiser, 4, paths, iterations=6, watch=lambda state, errors: stops.append(state))
    assert [stop.iteration for stop in stops] == list(range(1, len(stops) + 1))
    for stop in (stops[0], stops[2]):
        again = fit_tableau(denoiser, 4, paths, iterations=6, state=stop)
        assert torch.equal(again.tableau.times[1:], whole.tableau.times[1:])
        assert torch.equal(again.tableau.estimates, whole.tableau.estimates)


def test_what_does_not_help_is_not_kept(monkeypatch):
    # No iteration, from a start that is worse: the classical table is handed back.
    from sfumato.sampling import ddim
    from sfumato.sampling.fitting import fit

    monkeypatch.setattr(fit, "_start", lambda process, n: ddim(process, uniform(n)))
    denoiser = three()
    fit = fit_tableau(denoiser, 6, trajectories(denoiser, (2,), 90), iterations=0)
    assert not fit.kept
    assert fit.errors == fit.classical
    assert torch.equal(fit.tableau.estimates, auto(CHAIN, 6).estimates)


def test_nothing_is_fitted_where_nothing_is_left_to_gain():
    # A Gaussian about the origin, from a start at the origin: every sampler stays there.
    point = ExactDenoiser(CURVED, GaussianMixture.isotropic(torch.zeros(1, 2, dtype=torch.float64), 0.5))
    still = Trajectories(torch.zeros(12, 2, dtype=torch.float64), torch.zeros(12, 2, dtype=torch.float64))
    fit = fit_tableau(point, 4, still)
    assert not fit.kept
    assert fit.iterations == 0
    assert fit.errors.rms == 0


class Shifted(Denoiser):
    """Predictions shifted by each sample's condition."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.process = three(), CHAIN

    def forward(self, x_t, t, cond=None):
        shift = cond.vector
        level = self.process.level(t, like=x_t)
        prediction = self.inner(x_t - level.alpha * shift, t)
        return Prediction(prediction.x_0 + shift, prediction.eps)


def test_conditions_travel_with_their_samples():
    shift = torch.linspace(-1, 1, 90, dtype=torch.float64)
    paths = trajectories(Shifted(), (2,), 90, cond=Condition(vector=shift[:, None]), batch=32)
    plain = trajectories(Shifted(), (2,), 90, cond=Condition(vector=torch.zeros(90, 1, dtype=torch.float64)))
    # Data that is shifted by c starts alpha c further, alpha = 0.006.
    torch.testing.assert_close(paths.x, plain.x)
    assert float((paths.x_0 - plain.x_0 - shift[:, None]).abs().median()) < 0.02
    fit = fit_tableau(Shifted(), 4, paths, iterations=8)
    assert fit.errors.median < fit.classical.median


def test_a_network_is_fitted_too():
    denoiser = network()
    paths = trajectories(denoiser, (1, 4, 4), 24, evaluations=60)
    fit = fit_tableau(denoiser, 3, paths, iterations=6)
    assert fit.kept
    assert fit.errors.rms < fit.classical.rms


def test_trajectories_depend_on_their_seed_and_number_alone():
    denoiser = three()
    many, few = (
        trajectories(denoiser, (2,), 40, evaluations=30),
        trajectories(denoiser, (2,), 40, evaluations=30, batch=7),
    )
    assert torch.equal(many.x, few.x)
    torch.testing.assert_close(many.x_0, few.x_0, rtol=1e-12, atol=1e-12)
    assert not torch.equal(many.x, trajectories(denoiser, (2,), 40, evaluations=30, seed=1).x)
    seen = []
    trajectories(denoiser, (2,), 10, evaluations=20, batch=4, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (200, 200)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_errors_are_root_mean_squares():
    x, x_0 = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]]), torch.zeros(3, 2)
    errors = Errors.between(x, x_0)
    assert errors.rms == pytest.approx(math.sqrt(29 / 6))
    assert errors.median == pytest.approx(math.sqrt(2))


def test_what_cannot_be_fitted_is_refused():
    denoiser = three()
    for evaluations in (-1, 0, 1, 33):
        with pytest.raises(InputError, match=f"^evaluations: {evaluations} .*give 2 to 32"):
            check_budget(evaluations)
    with pytest.raises(InputError, match=r"^count: 0 "):
        trajectories(denoiser, (2,), 0)
    with pytest.raises(InputError, match=r"^paths: 2"):
        fit_tableau(denoiser, 5, Trajectories(torch.zeros(2, 2), torch.zeros(2, 2)))


def test_fewer_trajectories_where_each_says_more():
    assert count_for((2,)) == 3072
    assert count_for((3, 32, 32)) == 192
    assert 192 < count_for((1, 8, 8)) < 3072


def test_a_table_is_written_down_to_the_last_digit():
    for table in (auto(CURVED, 9), ancestral(CHAIN, uniform(5), "learned")):
        again = Tableau.from_dict(table.to_dict())
        for name in ("times", "states", "estimates", "noise"):
            torch.testing.assert_close(getattr(again, name), getattr(table, name), rtol=0, atol=0, equal_nan=True)
        assert (again.name, again.start) == (table.name, table.start)
    with pytest.raises(InputError, match="not a tableau"):
        Tableau.from_dict({"times": [1.0]})
