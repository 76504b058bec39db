"""What a batch holds, per sample: its rows, its weights and its conditions, for every loss."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.bounds import ContinuousGaussian
from sfumato.core import (
    VP,
    LearnedLogSNR,
    LinearLogSNR,
    Noise,
    PairedNoise,
    Prediction,
    Process,
    SeededNoise,
    Tabulated,
    V,
    linear_betas,
)
from sfumato.denoisers import Condition, NetworkDenoiser
from sfumato.errors import InputError
from sfumato.hierarchical import MarkovianHVAE
from sfumato.objectives import (
    Batch,
    BoundLoss,
    ChainTimes,
    DenoisingLoss,
    ExplicitScoreMatching,
    HybridLoss,
    ImplicitScoreMatching,
    Loss,
    LossAware,
    NegativeELBO,
    SlicedScoreMatching,
    UncertaintyWeighted,
    UniformTimes,
    weights,
)

F64 = torch.float64
CONTINUOUS = Process(VP(), LinearLogSNR(-6.0, 9.0))
CHAIN = Process(VP(), Tabulated(linear_betas(20, 1e-3, 0.3)))
WITHOUT_NETWORK = ContinuousGaussian(needs_prediction=False)


class Conditional(nn.Module):
    """Different at every label and condition, with ``outputs`` times the numbers of x."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        shift = torch.zeros(len(x), 1, dtype=F64) if cond is None else cond
        return torch.cat([torch.sin((1 + k) * x + label.to(x)[:, None] + shift) for k in range(self.outputs)], dim=1)


def network(process: Process, outputs: int = 1) -> NetworkDenoiser:
    target = V() if outputs == 1 else Noise()
    return NetworkDenoiser(Conditional(outputs), process, target, "logsnr", learned_variance=outputs == 2)


def uneven() -> LossAware:
    times = LossAware(UniformTimes())
    times.density.change.data += torch.linspace(-0.1, 0.1, len(times.density.change))
    return times


def uncertain() -> UncertaintyWeighted:
    loss = UncertaintyWeighted(DenoisingLoss(UniformTimes()))
    loss.heights.data += torch.linspace(-0.1, 0.2, len(loss.heights))
    return loss


def hierarchy() -> MarkovianHVAE:
    torch.manual_seed(0)
    return MarkovianHVAE((3,), [2, 1], 8, 1).double()


LEARNED = Process(VP(), LearnedLogSNR(-6.0, 9.0))
DIFFUSION: dict[str, tuple[Callable[[], Loss[Any]], Callable[[], nn.Module]]] = {
    "denoising": (lambda: DenoisingLoss(UniformTimes()), lambda: network(CONTINUOUS)),
    "denoising by rate": (lambda: DenoisingLoss(UniformTimes(), weights.elbo), lambda: network(CONTINUOUS)),
    "loss-aware": (lambda: DenoisingLoss(uneven()), lambda: network(CONTINUOUS)),
    "uncertainty": (uncertain, lambda: network(CONTINUOUS)),
    "bound": (lambda: BoundLoss(UniformTimes(), WITHOUT_NETWORK), lambda: network(CONTINUOUS)),
    "bound, learned clock": (lambda: BoundLoss(UniformTimes(), WITHOUT_NETWORK), lambda: network(LEARNED)),
    "bound of a chain": (lambda: BoundLoss(ChainTimes(20), ContinuousGaussian()), lambda: network(CHAIN, 2)),
    "hybrid": (lambda: HybridLoss(ChainTimes(20), ContinuousGaussian()), lambda: network(CHAIN, 2)),
    "explicit": (
        lambda: ExplicitScoreMatching(UniformTimes(), lambda x, level: Prediction(x, x.sin())),
        lambda: network(CONTINUOUS),
    ),
    "implicit": (lambda: ImplicitScoreMatching(UniformTimes()), lambda: network(CONTINUOUS)),
    "probed": (lambda: ImplicitScoreMatching(UniformTimes(), 2), lambda: network(CONTINUOUS)),
    "sliced": (lambda: SlicedScoreMatching(UniformTimes(), 2), lambda: network(CONTINUOUS)),
}
ALL = {**DIFFUSION, "negative ELBO": (NegativeELBO, hierarchy)}


def batch(cond: Condition | None = None, weight: Tensor | None = None, z: Tensor | None = None) -> Batch:
    x_0 = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    noise = SeededNoise.samples(3, 6)
    uniform = torch.linspace(0.05, 0.95, 6, dtype=F64)
    return Batch(x_0, uniform, noise if z is None else PairedNoise(z, noise), cond, weight)


def conditions() -> Condition:
    return Condition(augmentation=torch.tensor([[0.3], [-1.0], [0.0], [2.0], [0.7], [-0.4]], dtype=F64))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("measure", ["forward", "evaluate"])
def test_a_weighted_loss_is_the_weight_times_the_loss(name: str, measure: str) -> None:
    make, model = ALL[name]
    loss, module = make(), model()
    weight = torch.tensor([2.0, 0.0, 1.0, 0.25, 3.0, 1.5])  # float32 on purpose: the loss keeps its own type
    plain, weighted = (getattr(loss, measure)(module, batch(weight=w)) for w in (None, weight))
    assert weighted.dtype == plain.dtype == F64
    assert plain.detach().abs().min() > 0
    torch.testing.assert_close(weighted, weight.double() * plain, rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", DIFFUSION)
@pytest.mark.parametrize("measure", ["forward", "evaluate"])
def test_sample_i_sees_condition_i(name: str, measure: str) -> None:
    make, model = DIFFUSION[name]
    loss, module, cond = make(), model(), conditions()
    together = getattr(loss, measure)(module, batch(cond))
    for i in range(6):
        everywhere = getattr(loss, measure)(module, batch(cond.rows(torch.full((6,), i))))
        torch.testing.assert_close(together[i], everywhere[i], rtol=1e-9, atol=1e-12)
        others = [j for j in range(6) if j != i]
        assert (everywhere[others] - together[others]).abs().min() > 1e-6  # another condition is another loss
    assert (getattr(loss, measure)(module, batch()) - together).abs()[[0, 1, 3, 4, 5]].min() > 1e-6


@pytest.mark.parametrize("name", ALL)
def test_losses_of_rows_are_rows_of_losses(name: str) -> None:
    make, model = ALL[name]
    loss, module = make(), model()
    whole = batch(conditions(), torch.linspace(0.5, 2, 6, dtype=F64))
    every = loss(module, whole)
    for first, last in ((0, 2), (2, 3), (3, 6)):
        rows = whole.rows(first, last)
        assert len(rows) == last - first
        torch.testing.assert_close(loss(module, rows), every[first:last], rtol=1e-9, atol=1e-12)


def test_rows_slice_everything_that_is_drawn() -> None:
    z = torch.arange(18, dtype=F64).reshape(6, 3)
    whole = batch(conditions(), torch.linspace(0.5, 2, 6, dtype=F64), z)
    rows = whole.rows(1, 4)
    assert torch.equal(rows.x_0, whole.x_0[1:4])
    assert torch.equal(rows.uniform, whole.uniform[1:4])
    assert rows.weight is not None
    assert whole.weight is not None
    assert torch.equal(rows.weight, whole.weight[1:4])
    assert rows.cond is not None
    assert rows.cond.augmentation is not None
    assert rows.cond.augmentation.flatten().tolist() == [-1.0, 0.0, 2.0]
    assert torch.equal(rows.noise(1, rows.x_0), z[1:4])  # what was paired with the samples
    assert torch.equal(rows.noise(2, rows.x_0), whole.noise(2, whole.x_0)[1:4])  # and their own other draws
    bare = batch().rows(1, 4)
    assert bare.cond is None
    assert bare.weight is None


def test_noise_that_cannot_be_sliced_is_refused() -> None:
    given = batch()
    plain = Batch(given.x_0, given.uniform, lambda draw, like: torch.zeros_like(like))
    with pytest.raises(InputError, match=r"^noise: .*SeededNoise or PairedNoise") as caught:
        plain.rows(0, 2)
    assert "\n" not in str(caught.value)
