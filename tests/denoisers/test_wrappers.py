"""Clamped: bounds on x_0, and an eps that agrees with them."""

import pytest
import torch

from sfumato.core import VE, VP, Cosine, LinearLogSNR, Logistic, Prediction, Process, Straight
from sfumato.denoisers import Clamped, Denoiser, ExactDenoiser, GaussianMixture, NormBounded
from sfumato.errors import InputError

PROCESSES = [Process(VP(), Cosine()), Process(VE(), LinearLogSNR(-8.0, 8.0)), Process(Straight(), Logistic())]
TIMES = [0.01, 0.4, 0.9, 1.0]
each_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p.scaling).__name__)


def wide(process: Process) -> ExactDenoiser:
    mean = torch.tensor([0.5, -0.2, 1.5, -3.0], dtype=torch.float64)
    return ExactDenoiser(process, GaussianMixture.gaussian(mean, torch.eye(4, dtype=torch.float64)))


def sample(process: Process, t: float) -> torch.Tensor:
    x_0, noise = torch.randn(2, 6, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind()
    return process.perturb(2 * x_0, t, noise)


@each_process
def test_bounds_hold_and_the_pair_still_explains_the_sample(process):
    denoiser = wide(process)
    clamped = Clamped(denoiser, -0.7, 0.9)
    assert clamped.process is process
    for t in TIMES:
        x_t, level = sample(process, t), process.level(t)
        before, after = (d(x_t, torch.tensor(t, dtype=torch.float64)) for d in (denoiser, clamped))
        assert torch.equal(after.x_0, before.x_0.clamp(-0.7, 0.9))
        assert (before.x_0 != after.x_0).any()
        # The terms on the left are as large as alpha x_0 was before it was clamped.
        slack = 1e-13 * float((level.alpha * before.x_0).abs().max() + x_t.abs().max())
        torch.testing.assert_close(level.alpha * after.x_0 + level.sigma * after.eps, x_t, rtol=0, atol=slack)
        kept = before.x_0 == after.x_0
        assert torch.equal(after.eps[kept], before.eps[kept])


@each_process
def test_identity_where_nothing_is_clamped(process):
    denoiser = wide(process)
    for t in TIMES:
        x_t, time = sample(process, t).float(), torch.tensor(t, dtype=torch.float64)
        before, after = denoiser(x_t, time), Clamped(denoiser, -1e3, 1e3)(x_t, time)
        assert torch.equal(before.x_0, after.x_0)
        assert torch.equal(before.eps, after.eps)
        assert after.x_0.dtype == after.eps.dtype == torch.float32


def test_a_time_for_each_sample():
    clamped = Clamped(wide(PROCESSES[0]))
    t = torch.tensor([0.1, 0.5, 0.95], dtype=torch.float64)
    x_t = sample(PROCESSES[0], 0.5)[:3]
    whole = clamped(x_t, t)
    for i in range(3):
        alone = clamped(x_t[i : i + 1], t[i])
        torch.testing.assert_close(whole.eps[i], alone.eps[0], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(whole.x_0[i], alone.x_0[0], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (1.0, -1.0), (float("nan"), 1.0)])
def test_empty_bounds_are_refused(low, high):
    with pytest.raises(InputError, match=f"low {low}, high {high}"):
        Clamped(wide(PROCESSES[0]), low, high)


def test_within_moves_only_what_lies_beyond_and_keeps_x_t():
    process = Process(VP(), Cosine())
    far = torch.tensor([[[3.0, 4.0]], [[0.3, 0.4]]], dtype=torch.float64)
    x_t = torch.tensor([[[0.5, -1.0]], [[1.0, 2.0]]], dtype=torch.float64)
    t = torch.tensor([0.9, 0.4], dtype=torch.float64)

    class Believes(Denoiser):
        def __init__(self):
            super().__init__()
            self.process = process

        def forward(self, x_t, t, cond=None):
            level = process.level(t, like=x_t)
            return Prediction(far, (x_t - level.alpha * far) / level.sigma)

    found, plain, level = NormBounded(Believes(), 2.0)(x_t, t), Believes()(x_t, t), process.level(t, like=x_t)
    torch.testing.assert_close(found.x_0[0], far[0] * 2 / 5, rtol=1e-14, atol=0)  # |(3, 4)| = 5
    torch.testing.assert_close(level.alpha * found.x_0 + level.sigma * found.eps, x_t, rtol=0, atol=1e-12)
    assert torch.equal(found.x_0[1], plain.x_0[1])
    assert torch.equal(found.eps[1], plain.eps[1])
    with pytest.raises(InputError, match=r"^radius: 0"):
        NormBounded(Believes(), 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_of_each_feature_keep_the_type_and_move_with_the_module(dtype):
    denoiser, t = wide(PROCESSES[0]), torch.tensor(0.3, dtype=torch.float64)
    low = torch.tensor([-1.0, -0.1, 0.0, -4.0], dtype=torch.float64)
    x_t = sample(PROCESSES[0], 0.3).flatten(1).to(dtype)
    got = Clamped(denoiser, low, 0.8)(x_t, t)
    assert got.x_0.dtype == got.eps.dtype == dtype
    expected = [Clamped(denoiser, end, 0.8)(x_t, t).x_0[:, i] for i, end in enumerate(low.tolist())]
    torch.testing.assert_close(got.x_0, torch.stack(expected, 1), rtol=0, atol=1e-7)
    assert Clamped(denoiser, low, 0.8).to("meta").low.device.type == "meta"
    assert Clamped(denoiser, low, 0.8).state_dict() == {}
