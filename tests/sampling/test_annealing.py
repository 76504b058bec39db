"""Why levels are annealed: Langevin moves at one low level do not get from mode to mode, and keep wrong weights.

Ten modes of weights 0.13 and 0.07, far apart at the lowest noise. Of 12,000 samples the share of a mode of weight 0.07
has a standard error of 3.3 %, of one of weight 0.13 of 2.4 %: 10 % off is three of them for the former, and a mode that
is drawn 20 % too often is missed with probability 0.003.
"""

import math

import torch

from sfumato.core import VE, Process, Tabulated, geometric_betas
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.sampling import Tableau, langevin, run
from sfumato.sampling.methods import tableau

COUNT, RADIUS, STD = 12_000, 2.5, 0.15
WEIGHTS = torch.tensor([0.13, 0.07] * 5, dtype=torch.float64)
ANGLES = torch.arange(10, dtype=torch.float64) * 2 * math.pi / 10
MIXTURE = GaussianMixture.isotropic(RADIUS * torch.stack((ANGLES.cos(), ANGLES.sin()), 1), STD, WEIGHTS)
# The ncsn preset's choices: from the largest distance between two samples, at ratios of 5/3.
PROCESS = Process(VE(), Tabulated(geometric_betas(8, 0.15, 2 * RADIUS)))


def excess(table: Tableau, count: int) -> tuple[torch.Tensor, float]:
    """How much too often each mode is drawn, relative to its weight, from the prior of the whole process; and the share
    of samples within five standard deviations of a mode.
    """
    generator = torch.Generator().manual_seed(1)

    def noise(draw, like):
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    x = PROCESS.prior().variance.sqrt() * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    distance, mode = torch.cdist(run(ExactDenoiser(PROCESS, MIXTURE), table, x, noise=noise), MIXTURE.means).min(1)
    shares = torch.bincount(mode, minlength=10) / count
    return shares / WEIGHTS - 1, float((distance < 5 * STD).double().mean())


def test_annealing_draws_the_modes_by_their_weights():
    off, near = excess(tableau(PROCESS, "langevin", 300), COUNT)
    assert near > 0.999
    assert float(off.abs().max()) < 0.1
    # All together: the squared deviations in standard errors have mean 9 and exceed 28 once in a thousand times.
    assert float((COUNT * WEIGHTS * off**2).sum()) < 28


def test_moves_at_the_lowest_noise_alone_do_not():
    off, near = excess(langevin(PROCESS, 1 / 8, 150, 1.0), 3000)
    assert near > 0.99  # among the data, but where the start happened to be nearest
    assert float(off[1::2].min()) > 0.1
    assert float(off.abs().max()) > 0.3
