"""Certification against routes of its own: closed forms of flows and distances, and faults planted in tables."""

import dataclasses
import math

import pytest
import torch

from sfumato.core import VP, LinearBeta, Logistic, Process, Straight
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.sampling import certification, choice, ddim, run, uniform
from sfumato.sampling.certification import (
    BUDGETS,
    FINE,
    MOST,
    certify,
    measured_order,
    reference,
    sliced_distance,
)
from sfumato.sampling.fitting import Trajectories
from sfumato.sampling.methods import METHODS, auto, tableau
from sfumato.sampling.oracles import ORACLES

# Process.sde differentiates forwards, for which torch imports a module of its own that warns of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

F64 = torch.float64


def flow(denoiser: ExactDenoiser, x: torch.Tensor, start: float) -> torch.Tensor:
    """Where the flow of a Gaussian ends, in its eigenvectors: (x_t - alpha m) / sqrt(alpha^2 v + sigma^2) stays."""
    level, mean = denoiser.process.level(start), denoiser.distribution.means[0]
    variances, axes = torch.linalg.eigh(denoiser.distribution.covariances[0])
    kept = ((x - level.alpha * mean) @ axes) / torch.sqrt(level.alpha**2 * variances + level.sigma**2)
    return mean + (kept * variances.sqrt()) @ axes.mT


@pytest.fixture(scope="module")
def gaussian() -> tuple[ExactDenoiser, Trajectories, float]:
    denoiser = ORACLES["gaussian"]()
    paths, own = reference(denoiser, (8,), 64)
    return denoiser, paths, own.rms


def test_the_fine_solution_of_a_gaussian_is_its_flow(gaussian):
    denoiser, paths, own = gaussian
    error = (paths.x_0 - flow(denoiser, paths.x, auto(denoiser.process, FINE).start)).pow(2).mean().sqrt()
    # Order 4: half as many evaluations are at least as far off as the fine solution itself.
    assert float(error) <= own < 1e-6


def test_errors_are_the_distances_to_the_flow(gaussian):
    denoiser, paths, own = gaussian
    ends = flow(denoiser, paths.x, 1.0)
    seen = []
    (entry,) = certify(
        denoiser, paths, methods=["ddim"], budgets=[7], progress=lambda done, of: seen.append((done, of))
    )
    got = run(denoiser, tableau(denoiser.process, "ddim", 7), paths.x)
    squares = (got - ends).pow(2).mean(1)
    assert (entry.method, entry.budget, entry.evaluations) == ("ddim", 7, 7)
    assert entry.start == pytest.approx(float(denoiser.process.level(1.0).logsnr))
    assert entry.errors.rms == pytest.approx(float(squares.mean().sqrt()), abs=2 * own)
    assert entry.errors.median == pytest.approx(float(squares.median().sqrt()), abs=2 * own)
    assert entry.distance is None
    assert seen == [(7 * 64, 7 * 64)]


def test_a_method_that_starts_lower_gets_the_same_noise_at_its_own_scale(monkeypatch):
    monkeypatch.setattr(certification, "FINE", 40)
    # On a straight path the prior is as wide as sqrt(alpha^2 + sigma^2), which is 1 at the end and less below it.
    process = Process(Straight(), Logistic())
    denoiser = ExactDenoiser(process, GaussianMixture.gaussian(torch.tensor([0.7], dtype=F64), 0.3 * torch.eye(1)))
    paths, _ = reference(denoiser, (1,), 32)
    low = ddim(process, uniform(6, start=0.6))
    (entry,) = certify(denoiser, paths, methods=[], budgets=[6], extra={"low": {6: low}})
    scale = math.hypot(0.4, 0.6) / float(process.prior(auto(process, FINE).start).variance.sqrt())
    expected = (run(denoiser, low, paths.x * scale) - paths.x_0).pow(2).mean().sqrt()
    assert entry.start == pytest.approx(2 * math.log(0.4 / 0.6))
    assert entry.errors.rms == pytest.approx(float(expected), rel=1e-12)


def test_stochastic_methods_are_measured_by_distribution(monkeypatch):
    monkeypatch.setattr(certification, "FINE", 200)
    denoiser = ORACLES["modes"]()
    paths, _ = reference(denoiser, (2,), 512)
    entries = certify(denoiser, paths, methods=["ancestral", "dpm++2m-sde"], budgets=[5, 100])
    coarse, fine, _, sde = entries
    # More samples than one batch: each is measured from its own start.
    (entry,) = certify(denoiser, paths, methods=["ddim"], budgets=[6])
    expected = run(denoiser, tableau(denoiser.process, "ddim", 6), paths.x) - paths.x_0
    assert entry.errors.rms == pytest.approx(float(expected.pow(2).mean().sqrt()), rel=1e-9)
    assert all(entry.errors is None and entry.floor == coarse.floor for entry in entries)
    # What the floor is: two exact sets of 256, of independent draws of the mixture.
    one, other = (denoiser.distribution.sample(256, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert 0.5 < coarse.floor / sliced_distance(one, other) < 2
    # 100 steps are near exact. 5 are narrower than the data by a share that no sample of this size hides.
    assert coarse.distance > 2 * coarse.floor
    assert fine.distance < 1.5 * coarse.floor
    assert sde.distance < 1.5 * coarse.floor


def test_distances_are_to_samples_that_began_elsewhere(gaussian, monkeypatch):
    # A method that claims to add noise and is exact ends where the floor's own samples do.
    denoiser, paths, _ = gaussian
    monkeypatch.setitem(METHODS, "exact", dataclasses.replace(METHODS["adams4"], order=None))
    (entry,) = certify(denoiser, paths, methods=["exact"], budgets=[100])
    assert entry.floor > 0.01
    assert entry.distance == pytest.approx(entry.floor, rel=1e-3)


def test_progress_counts_every_evaluation(gaussian):
    denoiser, paths, _ = gaussian
    seen = []
    methods = ["ddim", "langevin", "ancestral"]
    certify(denoiser, paths, methods=methods, budgets=[3, 5], progress=lambda done, of: seen.append((done, of)))
    # ddim from 64 starts, ancestral from half of them; langevin cannot run.
    done = [3 * 64, 8 * 64, 8 * 64 + 3 * 32, 8 * 64 + 8 * 32]
    assert seen == [(n, done[-1]) for n in done]


def test_the_seed_decides_the_noise(gaussian):
    denoiser, paths, _ = gaussian
    one, again, other = (
        certify(denoiser, paths, methods=["ancestral"], budgets=[10], seed=seed)[0].distance for seed in (0, 0, 1)
    )
    assert one == again != other


def test_sliced_distance_of_shifted_and_of_scaled_sets():
    x = torch.randn(500, 3, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    # A shift c moves every sorted projection by u . c, whose mean square over all directions is |c|^2 / 6.
    shift = torch.linspace(-1, 1, 6, dtype=F64).reshape(3, 2)
    assert sliced_distance(x, x[torch.randperm(500)]) == 0
    # 128 directions: the mean of (u . c)^2 6 / |c|^2, of standard deviation below sqrt(2) each.
    assert sliced_distance(x, x + shift) == pytest.approx(
        float(shift.pow(2).mean().sqrt()), rel=0.5 * 4 * 2**0.5 / 128**0.5
    )
    # Twice as wide: sorted projections differ by themselves, an RMS of 1 a coordinate, known to 1 / sqrt(2 * 500).
    assert sliced_distance(x, 2 * x) == pytest.approx(1, rel=4 / 1000**0.5)


def test_what_cannot_run_has_a_reason_and_nothing_else(gaussian):
    denoiser, paths, _ = gaussian
    entries = certify(denoiser, paths, methods=["langevin"], budgets=[5, 12], extra={"fitted": {}})
    first, second, langevin, ran = entries
    assert [e.method for e in entries] == ["fitted", "fitted", "langevin", "langevin"]
    assert first.reason == "no table for 5 evaluations"
    assert second.reason == "no table for 12 evaluations"
    assert "more than 5" in langevin.reason
    assert (langevin.evaluations, langevin.errors, langevin.distance, langevin.floor) == (0, None, None, None)
    assert ran.reason is None


def test_a_table_that_overflows_is_an_entry_with_its_row(gaussian):
    denoiser, paths, _ = gaussian
    table = tableau(denoiser.process, "ddim", 3)
    broken = dataclasses.replace(table, states=table.states * torch.tensor([[1e200], [1e200], [1.0]], dtype=F64))
    (entry,) = certify(denoiser, paths, methods=[], budgets=[3], extra={"broken": {3: broken}})
    assert "at row 1 " in entry.reason
    assert entry.errors is None


def test_a_better_table_is_seen_to_be_better(gaussian):
    denoiser, paths, _ = gaussian
    table = auto(denoiser.process, 20)
    worse = dataclasses.replace(table, estimates=table.estimates * 1.01)
    (bad, good) = certify(
        denoiser, paths, methods=["auto"], budgets=[20], extra={"worse": {20: worse}}, own={20: table}
    )
    assert bad.errors.rms > 5 * good.errors.rms


def test_auto_is_what_measures_best_on_the_denoiser(gaussian, monkeypatch):
    denoiser, paths, _ = gaussian
    few = {name: choice.CANDIDATES[name] for name in ("ddim", "unipc3", "adams4")}
    monkeypatch.setattr(choice, "CANDIDATES", few)
    monkeypatch.setattr(choice, "STARTS", 64)
    auto_, best, ddim_ = certify(denoiser, paths, methods=["auto", "adams4", "ddim"], budgets=[12])
    assert (auto_.table, auto_.errors) == ("adams4", best.errors)
    assert auto_.errors.rms < ddim_.errors.rms
    # Tables of its own are used as they are.
    own = {12: few["ddim"].make(denoiser.process, 12)}
    (given,) = certify(denoiser, paths, methods=["auto"], budgets=[12], own=own)
    assert given.errors == ddim_.errors


def test_nonsense_is_refused(gaussian):
    denoiser, paths, _ = gaussian
    for arguments, word in (
        ({"methods": ["ddmi"]}, "ddmi"),
        ({"budgets": [0]}, "0 evaluations"),
        ({"budgets": [MOST + 1]}, str(MOST)),
    ):
        with pytest.raises(InputError, match=word):
            certify(denoiser, paths, **arguments)
    with pytest.raises(InputError, match="at least 4"):
        certify(denoiser, paths.rows(slice(0, 3)))
    with pytest.raises(InputError, match="at least 4"):
        reference(denoiser, (8,), 3)


def test_the_reference_counts_its_evaluations_to_the_end(monkeypatch):
    monkeypatch.setattr(certification, "FINE", 20)
    denoiser = ExactDenoiser(Process(VP(), LinearBeta()), GaussianMixture.gaussian(torch.zeros(1), torch.eye(1)))
    seen = []
    reference(denoiser, (1,), 4, progress=lambda done, total: seen.append((done, total)))
    done, totals = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert done[-1] == totals[-1] == 4 * 20 * 3 // 2


def test_other_seeds_give_other_starts(monkeypatch):
    monkeypatch.setattr(certification, "FINE", 20)
    denoiser = ExactDenoiser(Process(VP(), LinearBeta()), GaussianMixture.gaussian(torch.zeros(1), torch.eye(1)))
    one, again, other = (reference(denoiser, (1,), 4, seed=seed)[0].x for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert (one != other).all()


@pytest.mark.parametrize("name", ["ddim", "heun", "dpm++3m", "deis3"])
def test_measured_orders_are_the_nominal_ones(name):
    assert measured_order(name) == pytest.approx(METHODS[name].order, abs=0.2)


def test_what_has_no_order():
    assert measured_order("ancestral") is None
    assert measured_order("auto") is None


def test_the_oracles_are_what_they_say():
    modes = ORACLES["modes"]()
    expected = {(i / 2, j / 2) for i in range(-2, 3) for j in range(-2, 3)}
    assert {tuple(mean) for mean in modes.distribution.means.tolist()} == expected
    assert torch.equal(modes.distribution.covariances, 0.05**2 * torch.eye(2, dtype=F64).expand(25, 2, 2))
    assert float(modes.process.level(1.0).ratio) == pytest.approx(157, abs=1)
    for name, width, narrow, wide in (("cosine64", 64, 0.02, 0.3), ("ve16", 16, 0.05, 0.5), ("flow4", 4, 0.1, 0.6)):
        mixture = ORACLES[name]().distribution
        widths = torch.linalg.eigvalsh(mixture.covariances).sqrt()
        assert widths.shape[1] == width
        assert narrow * 0.999 < float(widths.min()) < float(widths.max()) < wide * 1.001
        off_axis = mixture.covariances - mixture.covariances.diagonal(dim1=1, dim2=2).diag_embed()
        assert (off_axis.abs().amax((1, 2)) > 0.1 * narrow**2).all()
        assert float(mixture.weights.max() / mixture.weights.min()) > 1.5
    assert len(BUDGETS) == 7


@pytest.mark.parametrize("name", ORACLES)
def test_auto_is_good_on_every_oracle(name, monkeypatch):
    monkeypatch.setattr(certification, "FINE", 300)
    denoiser = ORACLES[name]()
    width = denoiser.distribution.means.shape[1]
    paths, own = reference(denoiser, (width,), 16)
    fixed = {50: auto(denoiser.process, 50)}
    entries = certify(denoiser, paths, methods=["auto", "ddim"], budgets=[50], own=fixed)
    assert entries[0].errors.rms < 0.2 * entries[1].errors.rms
    assert own.rms < 0.1 * entries[0].errors.rms
