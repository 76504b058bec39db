"""Reprocessed: the beliefs of one process asked under another, against the exact beliefs under that one.

A mixture's exact denoiser has the closed form under any process, and knows nothing of how another is read.
"""

import math

import pytest
import torch

from sfumato.core import (
    VE,
    VP,
    Cosine,
    Cut,
    LinearBeta,
    LinearLogSNR,
    Logistic,
    Noise,
    Prediction,
    Process,
    Straight,
    SubVP,
    SubVPBeta,
    Tabulated,
    geometric_betas,
    linear_betas,
)
from sfumato.denoisers import Condition, Denoiser, ExactDenoiser, GaussianMixture, NetworkDenoiser, Reprocessed
from sfumato.errors import InputError

MIXTURE = GaussianMixture.isotropic(
    torch.tensor([[1.0, -0.5], [-1.0, 0.7], [0.2, 2.0]], dtype=torch.float64),
    0.3,
    torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
)
PROCESSES = {
    "VP": Process(VP(), LinearLogSNR(-7.0, 9.0)),
    "VE": Process(VE(), LinearLogSNR(-7.0, 9.0)),
    "straight": Process(Straight(), Cut(Logistic(), -7.0, 9.0)),
    "sub-VP": Process(SubVP(), Cut(SubVPBeta(), -7.0, 9.0)),
    "cosine": Process(VP(), Cosine(-7.0, 9.0)),
}
WIDE = {
    "VP": Process(VP(), LinearBeta()),
    "VE": Process(VE(), LinearLogSNR(-8.0, 10.0)),
    "straight": Process(Straight(), Logistic()),
    "sub-VP": Process(SubVP(), SubVPBeta()),
    "DDPM's chain": Process(VP(), Tabulated(linear_betas(1000))),
    "NCSN's chain": Process(VE(), Tabulated(geometric_betas(60, 0.01, 50.0))),
}
TIMES = torch.tensor([1e-3, 0.05, 0.3, 0.5, 0.77, 1.0], dtype=torch.float64)


def samples(process: Process, t: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x_0 = MIXTURE.sample(len(t), generator)
    return process.perturb(x_0, t, torch.randn(x_0.shape, generator=generator, dtype=torch.float64))


def close(got: Prediction, expected: Prediction) -> None:
    torch.testing.assert_close(got.x_0, expected.x_0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got.eps, expected.eps, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("to", PROCESSES)
@pytest.mark.parametrize("own", WIDE)
def test_beliefs_are_those_under_the_other_process(own, to):
    own, to = WIDE[own], PROCESSES[to]
    low = max(float(own.level(1.0).logsnr), -7.0)
    process = Process(to.scaling, Cut(to.schedule, low, 9.0))
    reprocessed = Reprocessed(ExactDenoiser(own, MIXTURE), process)
    assert reprocessed.process is process
    x_t = samples(process, TIMES)
    close(reprocessed(x_t, TIMES), ExactDenoiser(process, MIXTURE)(x_t, TIMES))
    for i, t in enumerate(TIMES):  # one time for all is the same
        close(reprocessed(x_t[i : i + 1], t), ExactDenoiser(process, MIXTURE)(x_t[i : i + 1], t))


@pytest.mark.parametrize("chain", ["DDPM's chain", "NCSN's chain"])
def test_a_chain_is_a_process_to_go_to_as_well(chain):
    process = WIDE[chain]
    low = float(process.level(1.0).logsnr)
    own = Process(Straight(), Logistic(low - 1, math.inf))
    t = torch.arange(1, process.schedule.steps + 1, 7).double() / process.schedule.steps
    x_t = samples(process, t)
    close(Reprocessed(ExactDenoiser(own, MIXTURE), process)(x_t, t), ExactDenoiser(process, MIXTURE)(x_t, t))


def test_the_beliefs_about_data_itself_are_the_data():
    process = WIDE["straight"]
    reprocessed = Reprocessed(ExactDenoiser(WIDE["straight"], MIXTURE), Process(VP(), Cut(Logistic(), -5.0, math.inf)))
    x = MIXTURE.sample(3, torch.Generator().manual_seed(0))
    got = reprocessed(x, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(got.x_0, x)
    assert float(process.level(0.0).sigma) == 0


class Witness(Denoiser):
    """Remembers what it was asked."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process

    def forward(self, x_t, t, cond=None):
        self.asked = (x_t, t, cond)
        return Prediction(x_t, x_t, torch.full_like(x_t, 0.25))


def test_a_state_is_asked_about_in_the_models_own_units_and_time():
    # sigma / alpha = 3 is sigma = 0.75, alpha = 0.25 = 1 - t on the straight path, and sigma = 3 in VE.
    own = Witness(WIDE["straight"])
    process = Process(VE(), LinearLogSNR(-4.0, 4.0))
    t = process.schedule.time(torch.tensor([-2 * math.log(3.0)] * 2, dtype=torch.float64))
    x = torch.tensor([[4.0, -8.0], [1.0, 0.0]], dtype=torch.float64)
    cond = Condition(classes=torch.tensor([3, 1]))
    got = Reprocessed(own, process)(x, t, cond)
    torch.testing.assert_close(own.asked[0], x / 4, rtol=1e-12, atol=0)
    torch.testing.assert_close(own.asked[1], torch.full((2,), 0.75, dtype=torch.float64), rtol=1e-12, atol=0)
    assert own.asked[2] is cond
    assert got.variance_share is not None
    assert float(got.variance_share[0, 0]) == 0.25


def test_images_of_float32_stay_float32():
    own = Witness(WIDE["VP"])
    x = torch.ones(3, 1, 4, 4)
    Reprocessed(own, PROCESSES["VE"])(x, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    assert own.asked[0].dtype == torch.float32
    assert own.asked[0].shape == (3, 1, 4, 4)
    assert own.asked[1].shape == (3,)


def test_there_and_back_is_where_it_was():
    inner = ExactDenoiser(PROCESSES["VP"], MIXTURE)
    again = Reprocessed(Reprocessed(inner, PROCESSES["straight"]), PROCESSES["VP"])
    x_t = samples(PROCESSES["VP"], TIMES)
    close(again(x_t, TIMES), inner(x_t, TIMES))


def test_a_network_is_told_of_its_own_level():
    labels = []

    class Recorder(torch.nn.Module):
        def forward(self, x, label):
            labels.append(label)
            return x

    own, process = WIDE["DDPM's chain"], PROCESSES["VE"]
    logsnr = own.level(torch.tensor([0.2, 0.9], dtype=torch.float64)).logsnr
    wide = Process(VE(), LinearLogSNR(-9.0, 9.0))
    t = wide.schedule.time(logsnr)
    process = Process(VE(), Cut(wide.schedule, -8.0, 9.0))
    t = process.schedule.time(logsnr)
    Reprocessed(NetworkDenoiser(Recorder(), own, Noise(), "index"), process)(torch.ones(2, 2), t)
    assert labels[0].tolist() == pytest.approx([199.0, 899.0], abs=1e-3)


@pytest.mark.parametrize(
    ("own", "process", "names"),
    [
        ("VE", Process(VP(), LinearLogSNR(-9.0, 5.0)), ("-9 to 5", "-8 to 10")),
        ("VE", Process(VP(), LinearLogSNR(-5.0, 11.0)), ("-5 to 11",)),
        ("VE", Process(Straight(), Logistic()), ("-inf to inf",)),
        ("VP", Process(Straight(), Logistic()), ("-inf", "to inf")),
        ("NCSN's chain", Process(VE(), LinearLogSNR(-9.0, 5.0)), ("-9 to 5",)),
    ],
)
def test_levels_that_the_model_has_not_are_refused(own, process, names):
    with pytest.raises(InputError, match=r"^process: .*cut the schedule") as caught:
        Reprocessed(ExactDenoiser(WIDE[own], MIXTURE), process)
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in names)


def test_ends_that_were_computed_are_not_refused():
    process = Process(VP(), LinearLogSNR(-8.0 - 1e-9, 10.0 + 1e-9))
    reprocessed = Reprocessed(ExactDenoiser(WIDE["VE"], MIXTURE), process)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    x_t = samples(process, ends)
    got, expected = reprocessed(x_t, ends), ExactDenoiser(process, MIXTURE)(x_t, ends)
    torch.testing.assert_close(got.x_0, expected.x_0, rtol=1e-7, atol=1e-7)
