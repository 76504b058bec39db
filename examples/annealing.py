"""Langevin dynamics on ten modes, with annealing and without. Run: ``python examples/annealing.py annealing.png``.

The score is exact, so all errors come from sampling. Both start from the same wide distribution and make the same
number of moves.
"""

import math
import sys

import matplotlib.pyplot as plt
import torch

from sfumato.core import VE, Process, SeededNoise, geometric, geometric_ratio
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.sampling import annealed_langevin, grids, langevin, run

CHAINS, MOVES, STEP = 20_000, 200, 0.5  # STEP is the relative size of the MOVES per level
SIGMA_MIN, SIGMA_MAX = 0.05, 8.0  # a quarter of the width of a mode; the distance of the farthest two


def main(path: str) -> None:
    """Draw the weights that both reach into ``path``, and print them."""
    torch.set_num_threads(1)
    angle = torch.arange(10) * 2 * torch.pi / 10
    means = 4 * torch.stack((angle.cos(), angle.sin()), dim=1).double()
    weights = torch.arange(1, 11).double() / 55
    modes = GaussianMixture.isotropic(means, 0.2, weights)
    levels = 1 + math.ceil(math.log(SIGMA_MAX / SIGMA_MIN) / math.log(geometric_ratio(2)))
    process = Process(VE(), geometric(SIGMA_MIN, SIGMA_MAX))
    denoiser = ExactDenoiser(process, modes)
    noise = SeededNoise.samples(0, CHAINS)
    start = process.prior().variance.sqrt().float() * noise(0, torch.empty(CHAINS, 2))
    tables = {
        f"annealed, {levels} sigmas": annealed_langevin(process, grids.uniform_logsnr(process, levels), MOVES, STEP),
        "at the lowest sigma alone": langevin(process, 1e-12, levels * MOVES, STEP),
    }
    figure, axes = plt.subplots(figsize=(7.2, 3.0), dpi=130, layout="constrained")
    mode = torch.arange(1, 11)
    axes.bar(mode - 0.3, weights, 0.3, color="#999999", label="truth")
    for k, (name, table) in enumerate(tables.items()):
        x = run(denoiser, table, start, noise=noise)
        fractions = torch.bincount(torch.cdist(x.double(), means).argmin(1), minlength=10) / CHAINS
        worst = float((fractions / weights - 1).abs().max())
        print(f"{name}: weights {[round(s, 4) for s in fractions.tolist()]}, worst relative error {worst:.1%}")
        axes.bar(
            mode + 0.3 * k, fractions, 0.3, color=("#2b6cb0", "#dd6b20")[k], label=f"{name}: worst off by {worst:.0%}"
        )
    axes.set(xlabel="mode", ylabel="weight", xticks=mode)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main(sys.argv[1])
