"""The choice of a method by measurement: against truth, against figures by hand, and with faults planted."""

import math
from dataclasses import replace

import pytest
import torch

from sfumato.core import VE, VP, Cosine, LinearLogSNR, Logistic, Process, Straight, Tabulated, linear_betas
from sfumato.denoisers import Denoiser, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.sampling import Tableau, choice, grids, run
from sfumato.sampling.choice import CANDIDATES, Candidate, choose, nearest, table
from sfumato.sampling.methods import auto, tableau

PROCESSES = {
    "chain": Process(VP(), Tabulated(linear_betas(1000))),
    "cosine": Process(VP(), Cosine()),
    "VE": Process(VE(), LinearLogSNR(-9.0, 9.0)),
    "straight": Process(Straight(), Logistic()),
}


def target(process: Process) -> ExactDenoiser:
    """A wide mode beside a narrow one, in the plane."""
    means = torch.tensor([[0.0, 0.0], [0.9, -0.4]], dtype=torch.float64)
    covariances = torch.stack([std**2 * torch.eye(2, dtype=torch.float64) for std in (1.0, 0.05)])
    return ExactDenoiser(process, GaussianMixture(torch.tensor([0.6, 0.4]), means, covariances))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "FINE", 60)
    monkeypatch.setattr(choice, "STARTS", 96)


def few(monkeypatch: pytest.MonkeyPatch, *names: str) -> dict[str, Candidate]:
    """Only these candidates, of which more can be added."""
    kept = {name: CANDIDATES[name] for name in names}
    monkeypatch.setattr(choice, "CANDIDATES", kept)
    return kept


def errors(denoiser: Denoiser, made: Tableau, count: int = 512) -> tuple[float, float]:
    """RMS and median distance to a solution of 400 evaluations, from starts of its own."""
    z = torch.randn(count, 2, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    fine, ends = (
        run(denoiser, each, z * denoiser.process.prior(each.start).variance.sqrt())
        for each in (auto(denoiser.process, 400), made)
    )
    squares = (ends - fine).pow(2).mean(1)
    return float(squares.mean().sqrt()), float(squares.median().sqrt())


def test_the_choice_is_near_the_best_published_method_in_rms_and_median(monkeypatch):
    monkeypatch.setattr(choice, "FINE", 60)
    monkeypatch.setattr(choice, "STARTS", 256)
    denoiser = target(PROCESSES["cosine"])
    found = choose(denoiser, (2,), [8])
    chosen = errors(denoiser, table(denoiser.process, found[8], 8))
    others = [errors(denoiser, tableau(denoiser.process, name, 8)) for name in ("dpm++2m", "unipc2", "unipc3", "ddim")]
    for mine, theirs in zip(chosen, zip(*others, strict=True), strict=True):
        assert mine < 1.3 * min(theirs)


@pytest.mark.usefixtures("quick")
def test_a_method_that_is_wrong_or_overflows_is_not_chosen(monkeypatch):
    kept = few(monkeypatch, "ddim", "dpm++2m", "adams4")
    good = kept["adams4"].make

    def off(process: Process, evaluations: int) -> Tableau:
        made = good(process, evaluations)
        return replace(made, estimates=made.estimates * 1.02)

    def huge(process: Process, evaluations: int) -> Tableau:
        made = good(process, evaluations)
        return replace(made, states=made.states * 1e200)

    def refuses(process: Process, evaluations: int) -> Tableau:
        raise InputError("not here")

    kept |= {"off": Candidate(off), "huge": Candidate(huge), "refuses": Candidate(refuses)}
    denoiser = ExactDenoiser(PROCESSES["cosine"], GaussianMixture.isotropic(torch.zeros(1, 2), 0.7))
    assert choose(denoiser, (2,), [20]) == {20: "adams4"}


def test_regret_is_the_largest_excess_of_three_statistics():
    names = ["dpm++2m", "adams4", "mine", "one-sided"]
    known = {name: CANDIDATES.get(name, Candidate(CANDIDATES["ddim"].make)) for name in names}
    measured = torch.tensor(
        [[0.2, 0.10, 1.0], [0.1, 0.01, 1.0], [0.2, 0.05, 1.0], [0.05, 0.50, 1.0]], dtype=torch.float64
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "CANDIDATES", known)
        regret = choice._regret(measured, names)
    # "mine": RMS as published and as twice the best named; median half of published, 2.5 times twice the best named.
    assert float(regret[2]) == pytest.approx(math.log(2.5) + 0.3 * (0 + math.log(2.5)) / 2)
    # "one-sided": half the RMS counts for nothing beside 25 times the median.
    assert float(regret[3]) == pytest.approx(math.log(25) + 0.3 * (math.log(1 / 4) + math.log(25)) / 2)
    assert regret.argmin() == 1


@pytest.mark.usefixtures("quick")
def test_the_choice_depends_on_the_denoiser_alone(monkeypatch):
    few(monkeypatch, "ddim", "dpm++2m", "unipc3", "adams2", "adams3")
    denoiser = target(PROCESSES["chain"])
    torch.manual_seed(1)
    one = choose(denoiser, (2,), [5, 9])
    torch.manual_seed(2)
    assert choose(denoiser, (2,), [9]) == {9: one[9]}
    assert choose(denoiser, (2,), [5, 9], seconds=600.0) == one


def test_without_time_nothing_is_measured():
    assert choose(target(PROCESSES["cosine"]), (2,), seconds=0.0) == {}


@pytest.mark.usefixtures("quick")
def test_large_budgets_take_the_method_of_the_largest_that_can_be_measured(monkeypatch):
    few(monkeypatch, "ddim", "adams2")
    monkeypatch.setattr(choice, "MOST", 12)
    found = choose(target(PROCESSES["cosine"]), (2,), [400, 12])
    assert found == {400: "adams2", 12: "adams2"}


def test_nothing_is_chosen_where_there_is_nothing_to_choose():
    single = Process(VP(), Tabulated(torch.tensor([0.9], dtype=torch.float64)))
    assert choose(target(single), (2,), [1]) == choose(target(single), (2,), [1], seconds=60.0) == {}


def test_other_budgets_take_the_nearest_below():
    assert [nearest([10, 5, 20], n) for n in (1, 5, 9, 10, 19, 20, 99)] == [5, 5, 5, 10, 10, 20, 20]
    assert nearest([], 7) is None


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_every_candidate_runs_on_every_process(process):
    denoiser = target(process)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name in CANDIDATES:
        made = table(process, name, 6)
        assert (made.name, made.evaluations, made.stochastic) == (name, 6, False)
        assert run(denoiser, made, x * process.prior(made.start).variance.sqrt()).isfinite().all()


def test_even_straight_levels():
    times = choice._even_straight(PROCESSES["straight"], 5)
    level = PROCESSES["straight"].level(times[:-1])
    torch.testing.assert_close(level.sigma.diff(), level.sigma[0].expand(4) / -5, rtol=1e-4, atol=1e-6)
    assert times[-1] == 0
    grids.check(times)


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match=r"^choice: 'adams9' is not the name"):
        table(PROCESSES["cosine"], "adams9", 5)
