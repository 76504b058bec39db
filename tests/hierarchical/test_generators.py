import pytest
import torch

from sfumato.bounds import ContinuousGaussian, Factorised
from sfumato.core import VE, VP, Cosine, Prediction, Process, Tabulated, ValueGrid, geometric
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError
from sfumato.hierarchical import DenoisingGenerator, LearnedGenerator

from .conftest import BETAS, data, network_denoiser, shaken

GRID = ValueGrid(-1.0, 0.5, 5)


class Certain(Denoiser):
    """Believes in zero everywhere, with a share of the variance of its own."""

    def __init__(self, process, share=None):
        super().__init__()
        self.process, self.share = process, share

    def forward(self, x_t, t, cond=None):
        share = None if self.share is None else torch.full_like(x_t, self.share)
        return Prediction(torch.zeros_like(x_t), x_t, share)


def test_probabilities_of_all_values_add_up_to_one_and_draws_follow_them():
    torch.manual_seed(0)
    generator = shaken(LearnedGenerator([1, 2], 8, 1, GRID)).double()
    z = data(1, 2)
    p = torch.stack([generator.log_prob(v.reshape(1, 1), z).exp() for v in GRID.values]).detach()
    assert float(p.sum()) == pytest.approx(1, rel=1e-12)
    count = 20_000
    drawn = generator.draw(z.expand(count, 2), data(count, 1, seed=1))
    share = (drawn == GRID.values).double().mean(0)
    # Chi-square, 4 degrees: 33 at p = 1e-6.
    assert (count * (share - p[:, 0]) ** 2 / p[:, 0]).sum() < 33


def test_a_learned_share_of_the_variance_lies_between_the_two_on_a_log_scale():
    process = Process(VP(), Tabulated(torch.tensor(BETAS, dtype=torch.float64)))
    z = data(3, 4)
    for t in (2, 3):
        posterior = process.posterior(z, torch.zeros_like(z), t / 3, (t - 1) / 3)
        for share in (None, 0.0, 0.3, 1.0):
            step = DenoisingGenerator(Certain(process, share), ContinuousGaussian(), (4,)).step(z, t)
            torch.testing.assert_close(step.mean, posterior.mean, rtol=1e-12, atol=1e-14)
            weight = share or 0.0
            expected = BETAS[t - 1] ** weight * posterior.variance ** (1 - weight)
            torch.testing.assert_close(step.variance.expand_as(z), expected.expand_as(z), rtol=1e-12, atol=0)


def test_a_decoder_that_asks_no_network_gets_none():
    denoiser = network_denoiser(BETAS, (2,))
    denoiser.network.forward = None  # calling it would fail
    generator = DenoisingGenerator(denoiser, Factorised(GRID), (2,))
    x = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    assert generator.log_prob(x, 0.9 * x).shape == (1,)


@pytest.mark.parametrize(
    "process", [Process(VE(), geometric()), Process(VP(), Cosine()), Process(VE(), Tabulated(torch.tensor(BETAS)))]
)
def test_only_a_chain_that_preserves_variance_is_a_hierarchy(process):
    with pytest.raises(InputError, match=r"^denoiser: its process is .*; give a denoiser on VP with Tabulated betas$"):
        DenoisingGenerator(Certain(process), ContinuousGaussian(), (2,))
