"""Learned schedules: schedules like the others, whatever their numbers are, and gradients only where they belong."""

import pytest
import torch

from sfumato.core import VP, LearnedBetas, LearnedLogSNR, LinearLogSNR, Process, Tabulated, cosine_betas, linear_betas
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


ABSURD = [3.5, 4.0, 30.0, 1e3, 1e10, 3e38]


def pushed(schedule: torch.nn.Module, by: float, pattern: str) -> torch.nn.Module:
    """Every parameter moved by ``by``, up and down in turn, one of them alone, or all at one end."""
    for p in schedule.parameters():
        k = torch.arange(len(p))
        signs = {"turns": (-1.0) ** k, "one": 1.0 * (k == len(p) // 2), "ends": torch.where(k < len(p) / 2, 1.0, -1.0)}
        p.data = by * signs[pattern].to(p)
    return schedule


@pytest.mark.parametrize("pattern", ["turns", "one", "ends"])
@pytest.mark.parametrize("by", [sign * by for by in ABSURD for sign in (1, -1)])
@pytest.mark.parametrize(
    "make",
    [
        lambda: LearnedLogSNR(-6.0, 9.0),
        lambda: LearnedLogSNR(-14.0, 13.3, cells=2),
        lambda: LearnedBetas(cosine_betas(12)),
        lambda: LearnedBetas(linear_betas(1000)),
        lambda: LearnedBetas(cosine_betas(4000)),
    ],
    ids=["log-SNR", "2 cells", "12 betas", "1000 betas", "4000 betas"],
)
def test_after_any_update_they_are_schedules(make, by, pattern):
    """Without bounds, a cell's mass or a beta is 0 in float64, and alpha underflows."""
    schedule = pushed(make(), by, pattern)
    process = Process(VP(), schedule)  # strictly decreasing, or refused
    steps = schedule.steps if isinstance(schedule, LearnedBetas) else 1000
    t = torch.arange(1, 2 * steps + 1, dtype=torch.float64) / (2 * steps)
    with torch.no_grad():
        level = process.level(t)
        # 1e-11 of a beta of 1e-7 is what float64 resolves of a decay of 1e3.
        torch.testing.assert_close(schedule.time(level.logsnr), t, rtol=0, atol=1e-5 / steps)
        assert level.logsnr.isfinite().all()
        assert (level.logsnr.diff() < 0).all()
        assert (level.alpha > 0).all()
        assert (level.alpha.diff() <= 0).all()
        assert process.rate(t[:-1] + 1e-5 / steps).isfinite().all()
        if isinstance(schedule, LearnedBetas):
            again = Tabulated(schedule.betas)  # each in (0, 1), or refused
            torch.testing.assert_close(again.decay, schedule.decay, rtol=1e-3, atol=0)


@pytest.mark.parametrize("make", [lambda: LearnedLogSNR(-6.0, 9.0), lambda: LearnedBetas(linear_betas(50))])
def test_one_step_of_an_absurd_rate_is_survived(make):
    """Adam's first step moves every parameter by the rate itself, whatever the gradient is."""
    for rate in (3.0, 1e3):
        schedule = make()
        optimizer = torch.optim.Adam(schedule.parameters(), lr=rate)
        t = torch.linspace(0.1, 1, 64, dtype=torch.float64)
        loss = (schedule.logsnr(t) * torch.sin(40 * t)).sum()
        if isinstance(schedule, LearnedLogSNR):
            loss = loss + (schedule.log_density(schedule.logsnr(t)) * torch.cos(90 * t)).sum()
        loss.backward()
        optimizer.step()
        assert all(float(p.detach().abs().max()) > rate / 2 for p in schedule.parameters())
        Process(VP(), schedule)
        with torch.no_grad():
            # A decay of 1e3 is known to 1e-13, a millionth of the least beta.
            torch.testing.assert_close(schedule.time(schedule.logsnr(t)), t, rtol=0, atol=1e-7)


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
