"""The network denoiser: what the network sees, and that every target says the same."""

import math

import pytest
import torch
from torch import nn

from sfumato.core import (
    EDM,
    VE,
    VP,
    X0,
    Cosine,
    LinearLogSNR,
    Logistic,
    Noise,
    Process,
    Score,
    Straight,
    Tabulated,
    V,
    Velocity,
    geometric,
    linear_betas,
)
from sfumato.denoisers import LABELS, Condition, GaussianMixture, NetworkDenoiser
from sfumato.errors import InputError
from sfumato.objectives import Batch, DenoisingLoss, UniformTimes

PROCESSES = [Process(VP(), Cosine()), Process(VE(), LinearLogSNR(-8.0, 8.0)), Process(Straight(), Logistic(-9.0, 9.0))]
each_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p.scaling).__name__)


def mixture() -> GaussianMixture:
    means = torch.tensor([[1.0, -0.5, 0.2, 0.0], [-1.0, 0.5, 0.0, 2.0]], dtype=torch.float64)
    return GaussianMixture.isotropic(means, 0.3)


class Recorder(nn.Module):
    """Hands back what it was given, in the type of its one parameter, and keeps it for a look."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=dtype))
        self.seen = []

    def forward(self, x, label, cond=None):
        self.seen.append((x, label, cond))
        return self.scale * x


class Oracle(nn.Module):
    """A network that would be perfect: it undoes c_in and answers with the exact belief in a target's units.

    It is told the level apart, since a label in float32 could not carry it to float64's accuracy.
    """

    def __init__(self, target, sigma_data):
        super().__init__()
        self.target, self.sigma_data, self.level = target, sigma_data, None

    def forward(self, x, label):
        level = self.level.like(x)
        x_t = x * torch.sqrt((level.alpha * self.sigma_data) ** 2 + level.sigma**2)
        belief = mixture().predict(x_t, self.level)
        return self.target.encode(belief.x_0, belief.eps, self.level)


def oracle(process, target, sigma_data=0.7):
    return NetworkDenoiser(Oracle(target, sigma_data), process, target, "log-ratio", sigma_data)


@each_process
def test_every_target_makes_the_same_prediction_and_the_same_loss(process):
    x_0, noise = torch.randn(2, 5, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind()
    targets = [X0(), Noise(), Score(), V(), Velocity(process.scaling), EDM(0.5), EDM(1.0)]
    # From log-SNR 8 to -8: solving for x_0 from the noise, or the reverse, costs e^4 = 55 roundings.
    t = torch.tensor([0.05, 0.3, 0.5, 0.8, 0.97], dtype=torch.float64)
    level = process.level(t)
    x_t = process.perturb(x_0, t, noise)
    exact = mixture().predict(x_t, level)
    loss = (noise - exact.eps).square().flatten(1).mean(1)
    for target in targets:
        denoiser = oracle(process, target)
        denoiser.network.level = level
        prediction = denoiser(x_t, t)
        torch.testing.assert_close(prediction.x_0, exact.x_0, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(prediction.eps, exact.eps, rtol=1e-10, atol=1e-10)
        batch = Batch(x_0, t, lambda draw, like: noise.to(like))
        got = DenoisingLoss(UniformTimes())(denoiser, batch)
        torch.testing.assert_close(got, loss, rtol=1e-10, atol=0)


@each_process
@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_the_network_sees_unit_variance(process, sigma_data):
    network = Recorder(torch.float64)
    denoiser = NetworkDenoiser(network, process, X0(), sigma_data=sigma_data)
    t = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    x_t = torch.ones(3, 2, 2, dtype=torch.float64)
    denoiser(x_t, t)
    level = process.level(t)
    expected = 1 / torch.sqrt((level.alpha * sigma_data) ** 2 + level.sigma**2)
    torch.testing.assert_close(network.seen[0][0], expected[:, None, None].expand(3, 2, 2), rtol=1e-14, atol=0)


def test_inputs_are_untouched_in_vp_with_unit_data():
    network = Recorder(torch.float64)
    x_t = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    NetworkDenoiser(network, PROCESSES[0], V())(x_t, torch.tensor(0.4, dtype=torch.float64))
    torch.testing.assert_close(network.seen[0][0], x_t, rtol=1e-15, atol=0)


def test_c_in_and_label_are_karras_et_al_table_1_in_ve():
    network, sigma = Recorder(torch.float64), 3.7
    process = Process(VE(), geometric(0.002, 80.0))
    denoiser = NetworkDenoiser(network, process, EDM(0.5), "log-ratio", 0.5)
    x_t = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prediction = denoiser(x_t, process.schedule.time(torch.tensor(-2 * math.log(sigma), dtype=torch.float64)))
    seen, label, _ = network.seen[0]
    c_in = 1 / math.sqrt(sigma**2 + 0.25)
    torch.testing.assert_close(seen, x_t * c_in, rtol=1e-12, atol=0)
    torch.testing.assert_close(label, torch.full((2,), math.log(sigma) / 4), rtol=1e-6, atol=0)
    c_skip, c_out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / math.sqrt(sigma**2 + 0.25)
    torch.testing.assert_close(prediction.x_0, c_skip * x_t + c_out * seen, rtol=1e-11, atol=1e-13)


def test_the_index_label_is_k_minus_one_on_the_thousand_step_chain():
    network = Recorder(torch.float32)
    denoiser = NetworkDenoiser(network, Process(VP(), Tabulated(linear_betas(1000))), Noise())
    k = torch.arange(1, 1001)
    denoiser(torch.zeros(1000, 1), k.double() / 1000)
    assert torch.equal(network.seen[0][1], (k - 1).float())
    denoiser(torch.zeros(2, 1), torch.tensor(1.0, dtype=torch.float64))
    assert network.seen[1][1].tolist() == [999, 999]


def test_labels_of_the_log_snr_and_their_bounds():
    process = Process(Straight(), Logistic())
    t = torch.tensor([1e-12, 0.25, 0.5, 1.0], dtype=torch.float64)
    level = process.level(t)
    inner = 2 * math.log(3.0)  # alpha / sigma = 3 at t = 1/4
    torch.testing.assert_close(
        LABELS["logsnr"](t, level),
        torch.tensor([1000, 25 * inner, 0, -1000], dtype=torch.float64),
        rtol=1e-12,
        atol=1e-12,
    )
    torch.testing.assert_close(
        LABELS["log-ratio"](t, level),
        torch.tensor([-5, math.log(1 / 3) / 4, 0, 5], dtype=torch.float64),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("network_type", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("state_type", [torch.float32, torch.float64], ids=str)
def test_the_types_meet_in_the_network_denoiser(network_type, state_type):
    network = Recorder(network_type)
    denoiser = NetworkDenoiser(network, PROCESSES[0], V())
    x_t = torch.linspace(-1, 1, 6, dtype=state_type).reshape(2, 3)
    prediction = denoiser(x_t, torch.tensor(0.4, dtype=torch.float64))
    seen, label, _ = network.seen[0]
    assert (seen.dtype, label.dtype, label.shape) == (network_type, torch.float32, (2,))
    assert prediction.x_0.dtype == prediction.eps.dtype == state_type
    # The recorder answers x_t as v, up to the network's own rounding: x_0 = alpha x - sigma v.
    level = PROCESSES[0].level(0.4)
    rounding = max(torch.finfo(network_type).eps, torch.finfo(state_type).eps)
    expected = ((level.alpha - level.sigma) * x_t.double()).to(state_type)
    torch.testing.assert_close(prediction.x_0, expected, rtol=0, atol=2 * rounding)


def test_a_network_without_parameters_runs_in_the_states_type():
    denoiser = NetworkDenoiser(nn.Identity(), PROCESSES[0], V())
    denoiser.network.forward = lambda x, label: x
    x_t = torch.ones(2, 3, dtype=torch.float64)
    assert denoiser(x_t, torch.tensor(0.4, dtype=torch.float64)).x_0.dtype == torch.float64


def test_a_condition_reaches_the_network_and_none_does_not():
    network = Recorder(torch.float32)
    denoiser = NetworkDenoiser(network, PROCESSES[0], V())
    numbers = torch.tensor([[3.0], [1.0]])
    denoiser(torch.zeros(2, 3), torch.tensor(0.4), Condition(augmentation=numbers))
    denoiser(torch.zeros(2, 3), torch.tensor(0.4))
    assert network.seen[0][2] is numbers
    assert network.seen[1][2] is None


@pytest.mark.parametrize(
    ("name", "cond"),
    [
        ("classes", Condition(classes=torch.tensor([3, 1]))),
        ("vector", Condition(vector=torch.ones(2, 3), augmentation=torch.ones(2, 3))),
        ("image", Condition(image=torch.ones(2, 1, 3), augmentation=torch.ones(2, 3))),
    ],
)
def test_a_part_that_the_network_does_not_take_is_refused(name, cond):
    denoiser = NetworkDenoiser(Recorder(torch.float32), PROCESSES[0], V())
    with pytest.raises(InputError, match=f"^cond: this network takes no {name}"):
        denoiser(torch.zeros(2, 3), torch.tensor(0.4), cond)


def test_gradients_reach_the_network():
    network = Recorder(torch.float32)
    denoiser = NetworkDenoiser(network, PROCESSES[0], V())
    denoiser(torch.ones(2, 3), torch.tensor(0.4)).x_0.sum().backward()
    # x_0 = alpha x - sigma (scale x): six times -sigma.
    assert float(network.scale.grad) == pytest.approx(-6 * float(PROCESSES[0].level(0.4).sigma), rel=1e-6)


@pytest.mark.parametrize("target", [Noise(), Score()])
def test_a_target_without_a_solution_at_pure_noise_is_refused(target):
    process = Process(Straight(), Logistic())
    with pytest.raises(InputError, match=rf"^target: {type(target).__name__} .* t = 1.*use v or velocity"):
        NetworkDenoiser(nn.Identity(), process, target)
    for allowed in (X0(), V(), Velocity(Straight()), EDM(0.5)):
        NetworkDenoiser(nn.Identity(), process, allowed)
    NetworkDenoiser(nn.Identity(), Process(Straight(), Logistic(-20.0)), target)


def test_the_noise_is_refused_where_a_cosine_clock_is_cut_nowhere():
    with pytest.raises(InputError, match=r"^target: Noise"):
        NetworkDenoiser(nn.Identity(), Process(VP(), Cosine(-math.inf)), Noise())


def test_an_unknown_label_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"^label: 'sigma' is not known; choose one of index, logsnr, log-ratio$"):
        NetworkDenoiser(nn.Identity(), PROCESSES[0], V(), label="sigma")
