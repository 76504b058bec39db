"""Noises dealt out by optimal transport: against all permutations, one by one."""

from itertools import permutations

import pytest
import torch
from torch import nn

from sfumato.core import Logistic, Process, Straight, Velocity
from sfumato.denoisers import NetworkDenoiser
from sfumato.objectives import Batch, DenoisingLoss, UniformTimes, optimal_transport
from sfumato.objectives.weights import flow

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


def draws(seed: int, *shape: int, dtype=torch.float64):
    def noise(draw, like):
        return torch.randn(shape, generator=torch.Generator().manual_seed(1000 * seed + draw), dtype=dtype)

    return noise


def rows(z: torch.Tensor) -> list[tuple[float, ...]]:
    return sorted(tuple(row.tolist()) for row in z.flatten(1))


@pytest.mark.parametrize("shape", [(1,), (2,), (3, 4), (2, 3, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_the_cost_is_the_least_of_all_120_permutations(seed, shape):
    noise = draws(seed, 5, *shape)
    x_0 = 3 * torch.randn(5, *shape, generator=torch.Generator().manual_seed(50 + seed), dtype=torch.float64) + 2
    z, paired = noise(1, x_0), optimal_transport(noise)(1, x_0)
    assert paired.shape == z.shape
    assert rows(paired) == rows(z)  # the same noises, each once
    costs = [float((x_0 - z[list(order)]).square().sum()) for order in permutations(range(5))]
    assert float((x_0 - paired).square().sum()) == pytest.approx(min(costs), rel=1e-12)
    assert min(costs) < float((x_0 - z).square().sum())  # some of the 16 batches might have been sorted; none was


def test_in_one_dimension_it_is_sorting():
    noise = draws(0, 50, 1)
    x_0 = torch.randn(50, 1, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    paired = optimal_transport(noise)(1, x_0)
    assert torch.equal(paired[x_0[:, 0].argsort()], noise(1, x_0).sort(0).values)


def test_other_draws_are_left_alone():
    noise = draws(0, 6, 2)
    x_0 = torch.arange(12).reshape(6, 2).double()
    for draw in (0, 2, 3):
        assert torch.equal(optimal_transport(noise)(draw, x_0), noise(draw, x_0))


def test_images_in_float32_keep_their_type():
    noise = draws(0, 8, 1, 4, 4, dtype=torch.float32)
    x_0 = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    paired = optimal_transport(noise)(1, x_0)
    assert paired.dtype == torch.float32
    assert rows(paired) == rows(noise(1, x_0))


def test_a_batch_of_one_has_one_pairing():
    noise = draws(0, 1, 3)
    x_0 = torch.ones(1, 3, dtype=torch.float64)
    assert torch.equal(optimal_transport(noise)(1, x_0), noise(1, x_0))


class Half(nn.Module):
    def forward(self, x, label, cond=None):
        return 0.5 * x


def test_the_loss_learns_from_the_pairs():
    process = Process(Straight(), Logistic())
    denoiser = NetworkDenoiser(Half(), process, Velocity(Straight()), "logsnr")
    noise = draws(3, 6, 2)
    x_0 = torch.randn(6, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    t = torch.tensor([0.1, 0.3, 0.4, 0.6, 0.8, 0.9], dtype=torch.float64)
    loss = DenoisingLoss(UniformTimes(), flow, optimal_transport)
    assert loss.pairing is not None
    got = loss(denoiser, Batch(x_0, t, loss.pairing(noise)))
    z = optimal_transport(noise)(1, x_0)
    x_t = (1 - t)[:, None] * x_0 + t[:, None] * z
    v_hat = denoiser.output(x_t, t)
    torch.testing.assert_close(got, (z - x_0 - v_hat).square().mean(1), rtol=1e-9, atol=0)
    plain = DenoisingLoss(UniformTimes(), flow)(denoiser, Batch(x_0, t, noise))
    assert not torch.allclose(got, plain)
