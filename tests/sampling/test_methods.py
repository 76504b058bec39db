"""The samplers by name: what they cost, what `auto` picks, and that all of them run on every process."""

import pytest
import torch

from sfumato.core import (
    VE,
    VP,
    Cosine,
    LinearBeta,
    LinearLogSNR,
    Logistic,
    Process,
    SeededNoise,
    Straight,
    Tabulated,
    linear_betas,
)
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.sampling import run
from sfumato.sampling.fitting import Errors
from sfumato.sampling.methods import METHODS, NAMES, auto, tableau

PROCESSES = {
    "chain": Process(VP(), Tabulated(linear_betas(1000))),
    "cosine": Process(VP(), Cosine()),
    "linear": Process(VP(), LinearBeta()),
    "VE": Process(VE(), LinearLogSNR(-9.0, 9.0)),
    "straight": Process(Straight(), Logistic(-14.0, 14.0)),
    "pure noise": Process(Straight(), Logistic()),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
TWO = GaussianMixture.isotropic(torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=torch.float64), 0.3)


def start(process: Process, table) -> torch.Tensor:
    z = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return process.prior(table.start).variance.sqrt() * z


@pytest.mark.parametrize("name", METHODS)
@each_process
def test_every_method_lands_among_the_data_of_every_process(name, process):
    budget = 300 if name == "langevin" else 60  # its moves must keep up with the fall of the noise
    table = tableau(process, name, budget)
    assert 0.8 * budget <= table.evaluations <= budget
    assert table.stochastic == (METHODS[name].order is None)
    end = run(ExactDenoiser(process, TWO), table, start(process, table), noise=SeededNoise.samples(0, 64))
    # Both modes are reached, and hardly anything is further than five standard deviations from the nearest.
    nearest = torch.cdist(end, TWO.means).min(1)
    assert set(nearest.indices.tolist()) == {0, 1}
    assert float(nearest.values.median()) < 5 * 0.3


@pytest.mark.parametrize("evaluations", [1, 2, 3, 6, 7, 12, 40, 41])
@each_process
def test_auto_takes_what_it_is_given(process, evaluations):
    table = auto(process, evaluations)
    assert table.evaluations == evaluations
    assert not table.stochastic
    order = 2 if evaluations <= 6 else 3 if evaluations <= 40 else 4
    name = f"adams(order={order}, along=angle, corrector={evaluations > 6})"
    assert table.name == (name if not 6 < evaluations <= 12 else name.replace(")", ", rebase=True)"))
    x = start(process, table)
    assert run(ExactDenoiser(process, TWO), table, x).isfinite().all()


@each_process
def test_auto_is_nearer_the_flows_end_than_ddim_with_ten_times_the_evaluations(process):
    denoiser = ExactDenoiser(process, TWO)
    fine = auto(process, 400)
    x = start(process, fine)
    ends = run(denoiser, fine, x)
    error = Errors.between(run(denoiser, auto(process, 20), x), ends)
    ddim = Errors.between(run(denoiser, tableau(process, "ddim", 200), x), ends)
    assert error.median < ddim.median


def test_a_budget_is_spent_as_far_as_steps_go():
    process = PROCESSES["cosine"]
    assert tableau(process, "heun", 20).evaluations == 19  # ten steps, the last of one evaluation
    assert tableau(process, "dpm++3s", 20).evaluations == 19  # six of three, one to data
    assert tableau(process, "dpm++2m", 20).evaluations == 20
    with pytest.raises(InputError, match=r"^steps: langevin takes more than 4 evaluations"):
        tableau(process, "langevin", 4)


def test_processes_of_narrow_range():
    fine = Process(VE(), LinearLogSNR(13.8, 23.0))  # sigma from 1e-5 to 1e-3, all below what is called data
    single = Process(VP(), Tabulated(torch.tensor([0.9], dtype=torch.float64)))
    for evaluations in (1, 5, 20):
        assert auto(fine, evaluations).evaluations == evaluations
    assert tableau(fine, "heun", 9).evaluations == 9
    assert auto(single, 1).evaluations == 1
    with pytest.raises(InputError, match=r"^steps: 5 evaluations of a process with a single level; give 1"):
        auto(single, 5)


def test_names_that_are_not_tables_are_refused():
    assert NAMES[:2] == ("auto", "adaptive")
    with pytest.raises(InputError, match=r"^sampler: 'dimd' is not known; choose one of auto, adaptive, "):
        tableau(PROCESSES["cosine"], "dimd", 10)
    with pytest.raises(InputError, match=r"^sampler: adaptive chooses its own steps"):
        tableau(PROCESSES["cosine"], "adaptive", 10)
    with pytest.raises(InputError, match=r"1001 on a chain of 1000 levels"):
        tableau(PROCESSES["chain"], "ddim", 1001)
    for name in ("auto", "ddim"):
        with pytest.raises(InputError, match=r"^(evaluations|steps): "):
            tableau(PROCESSES["cosine"], name, 0)


def test_every_method_says_where_it_comes_from():
    for method in METHODS.values():
        assert method.source
