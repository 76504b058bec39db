"""The bound as a loss: its mean is the bound, its gradients go where they should."""

import math

import pytest
import torch
from torch import nn

from sfumato.bounds import ContinuousGaussian, DiscretisedGaussian, Factorised
from sfumato.core import (
    VE,
    VP,
    LearnedBetas,
    LearnedLogSNR,
    LinearLogSNR,
    Logistic,
    Noise,
    Process,
    Straight,
    Tabulated,
    V,
    ValueGrid,
    cosine_betas,
    linear_betas,
)
from sfumato.denoisers import ExactDenoiser, GaussianMixture, NetworkDenoiser
from sfumato.errors import InputError
from sfumato.likelihood import Span, estimate, finest_time, walk, walk_times
from sfumato.objectives import Batch, BoundLoss, ChainTimes, DenoisingLoss, HybridLoss, LossAware, UniformTimes
from sfumato.objectives.times import stratify

MODES = GaussianMixture.isotropic(torch.tensor([[-0.7, 0.2], [0.6, 0.6], [0.3, -0.8]]).double(), 0.15)
GRID = ValueGrid(-1.0, 0.25, 9)


def continuous(n: int) -> torch.Tensor:
    return MODES.sample(n, torch.Generator().manual_seed(1))


def on_the_grid(n: int) -> torch.Tensor:
    return GRID.low + GRID.step * ((continuous(n) - GRID.low) / GRID.step).round().clamp(0, GRID.count - 1)


def draws(n: int):
    """Stratified quantiles, and a source of noise that differs from draw to draw."""
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(3))

    def noise(draw, like):
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(10 + draw), dtype=like.dtype)

    return stratify(uniform, shuffled, n), noise


CASES = {
    "chain, density": (Process(VP(), Tabulated(linear_betas(30, 1e-3, 0.4))), ContinuousGaussian()),
    "chain, levels": (Process(VP(), Tabulated(linear_betas(30, 1e-3, 0.4))), DiscretisedGaussian(GRID)),
    "VP": (Process(VP(), LinearLogSNR(-8.0, 6.0)), ContinuousGaussian(needs_prediction=False)),
    "VE": (Process(VE(), LinearLogSNR(-8.0, 6.0)), ContinuousGaussian(needs_prediction=False)),
    "straight, levels": (Process(Straight(), Logistic()), Factorised(GRID)),
    "learned": (Process(VP(), LearnedLogSNR(-8.0, 6.0)), Factorised(GRID)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_mean_of_the_loss_is_the_bound(name):
    process, decoder = CASES[name]
    denoiser, n = ExactDenoiser(process, MODES), 40_000
    x_0 = continuous(n) if decoder.grid is None else on_the_grid(n)
    chain = hasattr(process.schedule, "steps")
    times = ChainTimes(process.schedule.steps) if chain else UniformTimes()
    uniform, noise = draws(n)
    with torch.no_grad():
        losses = BoundLoss(times, decoder)(denoiser, Batch(x_0, uniform, noise)) / math.log(2)
    if chain:
        expected = walk(denoiser, x_0[:2000], decoder, walk_times(process), draws=2)
    else:
        span = Span(finest_time(process, decoder.grid))
        expected = estimate(denoiser, x_0[:2000], decoder, span, evaluations=60)
    # Four errors of the difference; that is 15 % of the loss at most, so a factor of two on any term is seen.
    tolerance = 4 * math.hypot(float(losses.std()) / math.sqrt(n), expected.estimate.error)
    assert abs(float(losses.mean()) - expected.estimate.mean) < tolerance
    assert tolerance < 0.15 * max(1.0, float(losses.abs().mean()))


@pytest.mark.parametrize("name", ["chain, levels", "VP", "VE", "straight, levels"])
def test_three_forms_give_one_loss(name):
    process, decoder = CASES[name]
    denoiser, n = ExactDenoiser(process, MODES), 500
    x_0 = continuous(n) if decoder.grid is None else on_the_grid(n)
    uniform, noise = draws(n)
    times = ChainTimes(30) if name.startswith("chain") else UniformTimes()
    values = [
        BoundLoss(times, decoder, form)(denoiser, Batch(x_0, uniform, noise)) for form in ("noise", "x_0", "score")
    ]
    torch.testing.assert_close(values[1], values[0], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(values[2], values[0], rtol=1e-7, atol=1e-9)


def test_a_decoder_that_asks_the_network_is_refused_in_continuous_time():
    process, _ = CASES["VP"]
    uniform, noise = draws(4)
    with pytest.raises(InputError, match="objective: "):
        BoundLoss(UniformTimes(), ContinuousGaussian())(
            ExactDenoiser(process, MODES), Batch(continuous(4), uniform, noise)
        )


def fitted(process: Process, steps: int, rate: float, batch: int = 256) -> None:
    """Learn a schedule alone, under exact beliefs."""
    denoiser = ExactDenoiser(process, MODES)
    chain = hasattr(process.schedule, "steps")
    times = ChainTimes(process.schedule.steps) if chain else UniformTimes()
    loss = BoundLoss(times, ContinuousGaussian(needs_prediction=chain))
    optimizer = torch.optim.Adam(process.schedule.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x_0 = MODES.sample(batch, generator)
        uniform = stratify(torch.rand(batch, generator=generator, dtype=torch.float64), torch.arange(batch), batch)
        z = torch.randn(2, batch, 2, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        loss(denoiser, Batch(x_0, uniform, lambda draw, like, z=z: z[draw - 1])).mean().backward()
        optimizer.step()


def spread(process: Process) -> tuple[float, float, float]:
    """(mean, variance, standard error) of the loss of one sample at even times."""
    n = 40_000
    uniform, noise = draws(n)
    with torch.no_grad():
        losses = BoundLoss(UniformTimes(), ContinuousGaussian(needs_prediction=False))(
            ExactDenoiser(process, MODES), Batch(continuous(n), uniform, noise)
        )
    return float(losses.mean()), float(losses.var()), float(losses.std()) / math.sqrt(n)


def test_a_learned_schedule_halves_the_variance_and_keeps_the_bound():
    line = Process(VP(), LinearLogSNR(-14.0, 9.0))
    learned = Process(VP(), LearnedLogSNR(-14.0, 9.0, cells=32))
    fitted(learned, 400, 3e-3)
    before, after = spread(line), spread(learned)
    assert after[1] < before[1] / 2
    assert abs(after[0] - before[0]) < 4 * math.hypot(before[2], after[2])
    high, low = learned.schedule.ends().tolist()  # 400 steps of 3e-3 could have carried them 1.2 away
    assert abs(high - 9.0) < 1.3
    assert abs(low + 14.0) < 1.3


def test_the_inside_learns_from_the_variance_alone_and_the_ends_from_the_bound():
    schedule = LearnedLogSNR(-6.0, 8.0, cells=16)
    denoiser = ExactDenoiser(Process(VP(), schedule), MODES)
    n = 100_000
    uniform, noise = draws(n)
    BoundLoss(UniformTimes(), ContinuousGaussian(needs_prediction=False))(
        denoiser, Batch(continuous(n), uniform, noise)
    ).mean().backward()
    schedule.density.settle(lambda total: total)

    def bound_and_moment(moved: torch.Tensor, change: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same by quadrature over log-SNR: the bound, and the second moment of the steps' estimate."""
        other = LearnedLogSNR(-6.0, 8.0, cells=16)
        other.moved.data, other.density.change.data = moved, change
        at = ExactDenoiser(Process(VP(), other), MODES)
        with torch.no_grad():
            bounds, moments = [], []
            x_0 = continuous(2000)
            for u in (torch.arange(100, dtype=torch.float64) + 0.5) / 100:
                level = at.process.level(u)
                z = torch.randn(2000, 2, generator=torch.Generator().manual_seed(int(u * 1000)), dtype=torch.float64)
                error = (z - at(level.alpha * x_0 + level.sigma * z, u).eps).square().sum(1) / 2
                steps = 0.5 * at.process.rate(u) * error
                bounds.append(steps.mean())
                moments.append(steps.square().mean())
            first, last = at.process.level(0.0), at.process.level(1.0)
            decoder = 0.5 * (1 + torch.log(2 * math.pi * first.ratio**2))
            prior = 0.5 * (last.alpha**2 * x_0.square().mean() + last.sigma**2 - 1 - torch.log(last.sigma**2))
        return torch.stack(bounds).mean() + decoder + prior, torch.stack(moments).mean()

    step = 0.2
    for k in (0, 1):
        push = torch.zeros(2)
        push[k] = step
        zero = torch.zeros(16)
        numeric = (bound_and_moment(push, zero)[0] - bound_and_moment(-push, zero)[0]) / (2 * step)
        assert abs(float(schedule.moved.grad[k]) - float(numeric)) < 0.03
    base = bound_and_moment(torch.zeros(2), torch.zeros(16))[1]
    for k in (2, 7, 12):
        push = torch.zeros(16)
        push[k] = 0.01
        zero = torch.zeros(2)
        numeric = (bound_and_moment(zero, push)[1] - bound_and_moment(zero, -push)[1]) / 0.02 / base
        # The gradient is in units of the second moment, and of one cell of 16 with a speed of 10 it is of order one.
        assert abs(float(schedule.density.change.grad[k]) - float(numeric)) < 0.2


def test_learned_betas_lower_the_bound_of_a_short_chain():
    betas = cosine_betas(8)
    learned = Process(VP(), LearnedBetas(betas))
    decoder, x_0 = ContinuousGaussian(), continuous(1000)
    first = walk(ExactDenoiser(learned, MODES), x_0, decoder, walk_times(learned), draws=20)
    fitted(learned, 300, 5e-2)
    last = walk(ExactDenoiser(learned, MODES), x_0, decoder, walk_times(learned), draws=20)
    assert last.estimate.mean < first.estimate.mean - 10 * math.hypot(first.estimate.method, last.estimate.method)
    now = learned.schedule.betas
    assert ((now > 0) & (now < 1)).all()


@pytest.mark.parametrize("base", [ChainTimes(50), UniformTimes()])
def test_loss_aware_times_keep_the_mean_and_lower_the_variance(base):
    process = Process(VP(), Tabulated(linear_betas(50, 1e-3, 0.3)))
    if isinstance(base, UniformTimes):
        process = Process(VP(), LinearLogSNR(-10.0, 8.0))
    denoiser = ExactDenoiser(process, MODES)
    decoder = ContinuousGaussian(needs_prediction=isinstance(base, ChainTimes))
    aware = BoundLoss(LossAware(base, cells=25), decoder)
    optimizer = torch.optim.Adam(aware.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        z = torch.randn(2, 128, 2, generator=generator, dtype=torch.float64)
        uniform = torch.rand(128, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        losses = aware(denoiser, Batch(MODES.sample(128, generator), uniform, lambda draw, like, z=z: z[draw - 1]))
        losses.mean().backward()
        optimizer.step()
    uniform, noise = draws(30_000)
    even = BoundLoss(base, decoder)
    with torch.no_grad():
        a, b = (loss(denoiser, Batch(continuous(30_000), uniform, noise)) for loss in (aware, even))
    assert float(a.var()) < 0.8 * float(b.var())
    assert abs(float(a.mean() - b.mean())) < 4 * math.sqrt(float(a.var() + b.var()) / 30_000)


def test_loss_aware_times_of_a_chain_are_its_levels_each_with_its_chance():
    times = LossAware(ChainTimes(12), cells=5)  # of 5 cells 4 hold whole levels
    assert len(times.density.change) == 4
    times.density.change.data = torch.tensor([0.1, -0.05, 0.0, 0.02])
    uniform = (torch.arange(120_000, dtype=torch.float64) + 0.5) / 120_000
    t = times(uniform)
    k = (t * 12).round().long()
    assert torch.equal(k.double() / 12, t)
    share = torch.bincount(k, minlength=13)[1:].double() / 120_000
    expected = torch.softmax(10 * times.density.change.detach().double(), 0).repeat_interleave(3) / 3
    torch.testing.assert_close(share, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(times.importance_weight(t), 1 / (12 * expected[k - 1]), rtol=1e-6, atol=0)
    assert torch.equal(times.even(uniform), ChainTimes(12)(uniform))


class Doubled(nn.Module):
    """Answers with numbers of its own, and a logit for each."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.full((2,), 0.3))
        self.logit = nn.Parameter(torch.tensor([0.4, -0.9]))

    def forward(self, x, label):
        return torch.cat([self.mean * x, self.logit.expand_as(x)], dim=1)


def test_the_hybrid_learns_the_mean_from_the_simple_loss_and_the_variance_from_the_bound():
    process = Process(VP(), Tabulated(linear_betas(20, 1e-3, 0.3)))
    uniform, noise = draws(400)
    x_0 = on_the_grid(400)
    times, decoder = ChainTimes(20), DiscretisedGaussian(GRID)

    def gradients(loss) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        denoiser = NetworkDenoiser(Doubled().double(), process, Noise(), learned_variance=True)
        value = loss(denoiser, Batch(x_0, uniform, noise)).mean()
        network = denoiser.network
        grads = torch.autograd.grad(value, [network.mean, network.logit], allow_unused=True)
        return value.detach(), *grads

    hybrid = gradients(HybridLoss(times, decoder, bound_weight=0.25))
    plain = gradients(DenoisingLoss(times))
    bound = gradients(BoundLoss(times, decoder))
    torch.testing.assert_close(hybrid[0], plain[0] + 0.25 * bound[0], rtol=1e-10, atol=0)
    torch.testing.assert_close(hybrid[1], plain[1], rtol=1e-10, atol=0)
    torch.testing.assert_close(hybrid[2], 0.25 * bound[2], rtol=1e-10, atol=0)
    assert not plain[2].any()


def test_a_learned_schedule_is_part_of_the_denoiser():
    schedule = LearnedLogSNR()
    denoiser = NetworkDenoiser(nn.Linear(2, 2), Process(VP(), schedule), V(), "logsnr")
    assert {"schedule.moved", "schedule.density.change"} <= set(denoiser.state_dict())
