"""Learned schedules: schedules like the others, whatever their numbers are, and gradients only where they belong."""

import pytest
import torch

from sfumato.core import VP, LearnedBetas, LearnedLogSNR, LinearLogSNR, Process, Tabulated, cosine_betas
from sfumato.errors import InputError


def moved(schedule: torch.nn.Module, by: float = 0.1) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    for p in schedule.parameters():
        p.data += by * torch.randn(p.shape, generator=generator)
    return schedule


def test_fresh_ones_are_where_they_began():
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    line, learned = LinearLogSNR(-6.0, 9.0), LearnedLogSNR(-6.0, 9.0)
    torch.testing.assert_close(learned.logsnr(t).detach(), line.logsnr(t), rtol=0, atol=1e-12)
    betas = cosine_betas(17)
    # float32 logits: a relative 1e-7 of a logit of order ten
    torch.testing.assert_close(LearnedBetas(betas).betas.detach(), betas, rtol=2e-6, atol=0)
    torch.testing.assert_close(
        LearnedBetas(betas).logsnr(t[1:]).detach(), Tabulated(betas).logsnr(t[1:]), rtol=0, atol=2e-5
    )


@pytest.mark.parametrize(
    "schedule",
    [LearnedLogSNR(-6.0, 9.0), LearnedLogSNR(-1.0, 1.0, cells=1), LearnedBetas(cosine_betas(12))],
    ids=lambda s: type(s).__name__,
)
@pytest.mark.parametrize("by", [0.0, 0.1, 0.3])
def test_however_they_move_they_are_schedules(schedule, by):
    moved(schedule, by)
    Process(VP(), schedule)  # strictly decreasing, or refused
    t = torch.linspace(0.01, 1, 300, dtype=torch.float64)
    with torch.no_grad():
        logsnr = schedule.logsnr(t)
        torch.testing.assert_close(schedule.time(logsnr), t, rtol=0, atol=1e-9)


def test_a_chain_whose_betas_have_moved_is_the_chain_of_those_betas():
    schedule = moved(LearnedBetas(cosine_betas(12)))
    t = torch.linspace(0.01, 1, 300, dtype=torch.float64)
    with torch.no_grad():
        now = Tabulated(schedule.betas)
        torch.testing.assert_close(schedule.logsnr(t), now.logsnr(t), rtol=1e-10, atol=1e-10)
    assert schedule.steps == 12


def test_the_betas_gradient_is_that_of_numbers():
    schedule = moved(LearnedBetas(cosine_betas(6))).double()
    t = torch.tensor([0.4, 0.75, 1.0], dtype=torch.float64)

    def total(change: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(_Called(schedule), {"schedule.change": change}, (t,)).sum()

    assert torch.autograd.gradcheck(total, schedule.change.detach().clone().requires_grad_())


class _Called(torch.nn.Module):
    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, t):
        return self.schedule.logsnr(t)


def test_the_log_snr_hands_gradients_to_its_ends_alone():
    schedule = moved(LearnedLogSNR(-6.0, 9.0))
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    ends = torch.autograd.grad(schedule.logsnr(t).sum(), schedule.moved)[0]
    assert (ends > 0).all()
    schedule.zero_grad()
    schedule.logsnr(t).sum().backward()
    assert schedule.density.change.grad is None


def test_the_rate_is_one_over_the_density():
    schedule = moved(LearnedLogSNR(-6.0, 9.0))
    process = Process(VP(), schedule)
    t = (torch.arange(50, dtype=torch.float64) + 0.37) / 50
    with torch.no_grad():
        high, low = schedule.ends()
        density = schedule.log_density(process.level(t).logsnr).exp()
        torch.testing.assert_close(process.rate(t), (high - low) / density, rtol=1e-9, atol=0)


def test_the_ends_stay_within_reach():
    schedule = LearnedLogSNR(-6.0, 9.0)
    schedule.moved.data = torch.tensor([1e3, -1e3])
    assert schedule.ends().tolist() == pytest.approx([14.0, -11.0])
    schedule.moved.data = torch.tensor([-1e3, 1e3])
    high, low = schedule.ends().tolist()
    assert high > low


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: LearnedLogSNR(3.0, 3.0),
        lambda: LearnedLogSNR(-float("inf"), 3.0),
        lambda: LearnedLogSNR(cells=0),
        lambda: LearnedBetas(torch.tensor([0.5, 1.0])),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(wrong):
    with pytest.raises(InputError) as caught:
        wrong()
    assert "\n" not in str(caught.value)
