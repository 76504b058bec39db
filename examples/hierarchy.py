"""From a VAE to a diffusion model, restriction by restriction, on a swiss roll whose entropy is known.

    python examples/hierarchy.py [--quick]

This trains seven models on one thread, prints the tables of docs/hierarchy.md and draws its figures into docs/images.
With --quick it trains for a few steps and draws into a temporary folder.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from binomial import BinomialChain, BinomialDiffusion, NetworkBeliefs, SequenceOracle, heartbeats, reciprocal_betas
from torch import Tensor, nn

from sfumato.bounds import ContinuousGaussian
from sfumato.core import VP, Process, SeededNoise, Tabulated, V, cosine_betas
from sfumato.data import TOYS
from sfumato.denoisers import Denoiser, ExactDenoiser, GaussianMixture, NetworkDenoiser
from sfumato.hierarchical import DenoisingGenerator, MarkovianHVAE, Restrictions
from sfumato.networks import MLP
from sfumato.objectives import Batch, ChainTimes, DenoisingLoss

ROLL = TOYS["swiss-roll"]
SCALE = 0.7  # the roll's standard deviation: model units are x / SCALE
IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
BLUE, ORANGE, INK = "#3a86c8", "#d97706", "#444444"
LENGTHS = (8, 16, 32, 64, 128, 256, 512)


def even_betas(steps: int) -> Tensor:
    """A chain whose log-SNR falls evenly from 7 to -7: noise of 0.03 at its first level, less than half the roll's own.

    Cosine betas take large steps in the log-SNR near data, which cost 0.8 nats for any number of steps up to 100.
    """
    kept = torch.cat((torch.ones(1), torch.sigmoid(torch.linspace(7, -7, steps)))).double()
    return 1 - kept[1:] / kept[:-1]


@dataclass(frozen=True)
class Measured:
    """A mean with its standard error."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.error:.3f}"


def mean_of(values: Tensor) -> Measured:
    """The mean of independent values."""
    return Measured(float(values.mean()), float(values.std()) / math.sqrt(len(values)))


def roll(count: int, seed: int) -> Tensor:
    """Samples in model units."""
    return (ROLL.sample(count, seed) / SCALE).float()


def entropy() -> float:
    """The entropy of the roll in nats, by the midpoint rule on a square that contains it: to 1e-9."""
    side, cell = 1.8, 0.02
    line = torch.arange(-side, side, cell, dtype=torch.float64) + cell / 2
    log_prob = ROLL.log_prob(torch.cartesian_prod(line, line))
    return -float((log_prob.exp() * log_prob).sum()) * cell**2


def fit(parameters: Any, loss: Callable[[int], Tensor], steps: int, rate: float = 2e-3) -> None:
    """Train with Adam and a learning rate that falls to zero along a cosine."""
    optimiser = torch.optim.Adam(parameters, lr=rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        optimiser.zero_grad()
        loss(step).mean().backward()
        optimiser.step()
        falling.step()


def hierarchies(steps: int) -> dict[str, MarkovianHVAE]:
    """Train the models with one network per level, by their bounds."""
    betas = even_betas(4)
    free, same, linear = Restrictions(), Restrictions(True), Restrictions(True, True)
    settings: dict[str, dict[str, Any]] = {
        "VAE, T = 1": {"widths": [1], "restrictions": free},
        "T = 4": {"widths": [2, 2, 1, 1], "restrictions": free},
        "same dimension": {"widths": [2] * 4, "restrictions": same},
        "linear encoder": {"widths": [2] * 4, "restrictions": linear, "betas": betas},
        "standard end": {"widths": [2] * 4, "restrictions": Restrictions(True, True, True), "betas": betas},
    }
    models = {}
    for name, arguments in settings.items():
        torch.manual_seed(0)
        start = time.perf_counter()
        model = MarkovianHVAE((2,), hidden=64, **arguments)
        fit(model.parameters(), lambda k, m=model: m.loss(roll(256, k), SeededNoise.samples(k, 256)), steps)
        models[name] = model
        print(f"# {name}: trained in {time.perf_counter() - start:.0f} s", flush=True)
    return models


def diffusion(network: nn.Module, length: int) -> MarkovianHVAE:
    """The hierarchy with all three restrictions and one network for all levels of a chain of this length."""
    return chained(NetworkDenoiser(network, Process(VP(), Tabulated(even_betas(length))), V()))


def chained(denoiser: Denoiser) -> MarkovianHVAE:
    """A denoiser for the plane as a hierarchy."""
    generator = DenoisingGenerator(denoiser, ContinuousGaussian(), (2,))
    widths = [2] * len(generator.chain.betas)
    return MarkovianHVAE((2,), widths, restrictions=Restrictions(True, True, True), generator=generator)


def denoising_network(steps: int) -> nn.Module:
    """Train one network for every level of a chain of 1000 steps, by the squared error of the noise.

    Unweighted, this is the bound of a long chain whose log-SNR falls evenly, up to a factor.
    """
    torch.manual_seed(0)
    start = time.perf_counter()
    network, chain = MLP((2,), width=128, depth=3), Tabulated(even_betas(1000))
    denoiser = NetworkDenoiser(network, Process(VP(), chain), V())
    objective = DenoisingLoss(ChainTimes(chain.steps))

    def loss(step: int) -> Tensor:
        x, noise = roll(512, step), SeededNoise.samples(step, 512)
        quantiles = torch.special.ndtr(noise(1, x[:, :1].double()))[:, 0]
        return objective(denoiser, Batch(x, quantiles, lambda draw, like: noise(draw + 1, like)))

    fit(network.parameters(), loss, steps)
    print(f"# denoiser: trained in {time.perf_counter() - start:.0f} s", flush=True)
    return network.eval()


@torch.no_grad()
def bound(model: MarkovianHVAE, count: int) -> tuple[list[Measured], Tensor]:
    """Measure (prior, steps, decoder, total) in nats in the units of the data, and the totals, on new samples."""
    terms = model.terms(roll(count, 10**6), SeededNoise.samples(10**6, count))
    units = 2 * math.log(SCALE)  # turns a density of x / SCALE into one of x
    parts = (terms.prior, terms.steps.sum(1), terms.decoder + units, terms.nats + units)
    return [mean_of(part) for part in parts], parts[3]


def table(models: dict[str, MarkovianHVAE], exact: float, count: int) -> dict[str, Measured]:
    """Print the bounds by term, and return the totals."""
    print(f"\n| model | prior | steps | decoder | bound | over the entropy, {exact:.4f} | spread | of the log-ratio |")
    print("|---|---|---|---|---|---|---|---|")
    totals = {}
    for name, model in models.items():
        measured, values = bound(model, count)
        totals[name] = measured[3]
        with torch.no_grad():
            ratio = model.log_ratio(roll(count, 10**6), SeededNoise.samples(10**6, count))
        cells = [name, *map(str, measured), f"{measured[3].mean - exact:.3f}", f"{float(values.std()):.2f}"]
        cells.append(f"{float(ratio.std()):.2f}")
        print("| " + " | ".join(cells) + " |", flush=True)
    return totals


def lengths(network: nn.Module, exact: float, count: int) -> dict[int, Measured]:
    """Print the bound of one network for several lengths of the chain."""
    totals = {length: bound(diffusion(network, length), count)[0][3] for length in LENGTHS}
    print("\n| T | " + " | ".join(map(str, totals)) + " |")
    print("|---|" + "---|" * len(totals))
    print("| bound | " + " | ".join(map(str, totals.values())) + " |")
    print("| over the entropy | " + " | ".join(f"{m.mean - exact:.3f}" for m in totals.values()) + " |", flush=True)
    return totals


def exact_denoiser(entropy: float, count: int) -> None:
    """Print the bound of 256 steps with an exact denoiser, of 300 Gaussians along the roll, on two sets of betas."""
    angle = math.pi * torch.linspace(1.5, 4.5, 302, dtype=torch.float64)[1:-1]
    curve = torch.stack((angle * angle.cos(), angle * angle.sin()), dim=1) / 10
    mixture = GaussianMixture.isotropic(curve / SCALE, 0.05 / SCALE)
    for name, betas in (("cosine", cosine_betas(256)), ("even", even_betas(256))):
        total = bound(chained(ExactDenoiser(Process(VP(), Tabulated(betas)), mixture)), count)[0][3]
        print(
            f"# exact denoiser, {name} betas, T = 256: {total}, {total.mean - entropy:.3f} over the entropy", flush=True
        )


def binomial(steps: int, count: int) -> dict[str, dict[int, Measured]]:
    """Bounds on heartbeats in bits per sequence: exact probabilities by the length of the chain, and a network."""
    sequences = heartbeats()
    phases = torch.arange(count) % len(sequences)
    x, noise = sequences[phases], SeededNoise.samples(1, count)
    oracle = {}
    for length in (5, 10, 20, 40, 80, 160, 320):
        chain = BinomialChain(reciprocal_betas(length))
        terms = BinomialDiffusion(chain, SequenceOracle(sequences, chain)).terms(x, noise)
        oracle[length] = mean_of(terms.nats / math.log(2))
    torch.manual_seed(0)
    start = time.perf_counter()
    chain = BinomialChain(reciprocal_betas(80))
    model = BinomialDiffusion(chain, NetworkBeliefs(MLP((20,), width=64, depth=2), chain))

    def loss(step: int) -> Tensor:
        chosen = torch.randint(len(sequences), (32,), generator=torch.Generator().manual_seed(step))
        return model.loss(sequences[chosen], SeededNoise.samples(step, 32))

    fit(model.parameters(), loss, steps, rate=4e-3)
    taken = time.perf_counter() - start
    with torch.no_grad():
        learned = mean_of(model.terms(x, noise).nats / math.log(2))
    drawn = model.sample(2000, 20, SeededNoise.samples(2, 2000))
    hits = (drawn[:, None] == sequences).all(2).any(1).double()
    print("\n| T | " + " | ".join(map(str, oracle)) + " |")
    print("|---|" + "---|" * len(oracle))
    print("| exact probabilities, bits per sequence | " + " | ".join(map(str, oracle.values())) + " |")
    print(f"# entropy {math.log2(5):.3f}; network at T = 80 after {taken:.0f} s: {learned} bits per sequence, ", end="")
    print(f"{100 * float(hits.mean()):.1f} % of 2,000 samples are heartbeats", flush=True)
    return {"oracle": oracle, "network": {80: learned}}


# ------------------------------------------------------------------------------------------------------ figures


def new_figure(width: float, height: float, rows: int, columns: int) -> tuple[Any, Any]:
    """A figure with its grid of axes, outside of pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def cloud(axes: Any, points: Tensor, colours: Any, reach: float, title: str = "") -> None:
    """Draw points in the plane, or numbers as a row of points at random heights."""
    if points.shape[1] == 1:
        heights = reach * torch.linspace(-0.5, 0.5, len(points))[torch.randperm(len(points))]
        points = torch.stack((points[:, 0], heights), dim=1)
    look = {"color": colours} if isinstance(colours, str) else {"c": colours, "cmap": "viridis"}
    axes.scatter(points[:, 0], points[:, 1], s=4, linewidths=0, alpha=0.7, **look)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, fontsize=10, color=INK)
    for spine in axes.spines.values():
        spine.set_color("#cccccc")


def draw_samples(models: dict[str, MarkovianHVAE], folder: Path) -> None:
    """Draw data, and samples of each model."""
    figure, grid = new_figure(9.6, 5.1, 2, 4)
    places = iter(grid.flat)
    cloud(next(places), roll(2000, 1), ORANGE, 2.6, "data")
    for name, model in models.items():
        cloud(next(places), model.sample(2000, SeededNoise.samples(1, 2000)), BLUE, 2.6, name)
    figure.savefig(folder / "hierarchy_samples.png")


def draw_latents(models: dict[str, MarkovianHVAE], folder: Path) -> None:
    """Draw z_1 .. z_4 of data, coloured by the position along the roll."""
    chosen = ["T = 4", "same dimension", "linear encoder"]  # the last has the same encoder as the models after it
    figure, grid = new_figure(9.6, 6.0, len(chosen), 5)
    x = roll(2000, 1)
    # The roll is r = angle / 10, so the radius of a point is its position along the roll.
    along = (x * SCALE).norm(dim=1)
    for k, (row, name) in enumerate(zip(grid, chosen, strict=True)):
        with torch.no_grad():
            latents = models[name].encoder(x, SeededNoise.samples(1, 2000)).latents
        for axes, z, title in zip(row, [x, *latents], ["x", "z_1", "z_2", "z_3", "z_4"], strict=True):
            reach = max(2.6, 1.05 * float(z.abs().quantile(0.995)))
            cloud(axes, z, along, reach, title if k == 0 else "")
        row[0].set_ylabel(name, fontsize=10, color=INK)
    figure.savefig(folder / "hierarchy_latents.png", dpi=90)


def plain(axes: Any, xlabel: str, ylabel: str) -> None:
    """Remove the box."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    axes.grid(alpha=0.2)


def draw_bounds(
    totals: dict[str, Measured], by_length: dict[int, Measured], bits: dict[str, dict[int, Measured]], exact: float,
    folder: Path,
) -> None:  # fmt: skip
    """Draw the bounds of all models, over the entropy, by the length of the chain, and those of binary sequences."""
    figure, grid = new_figure(11.5, 3.8, 1, 3)
    left, middle, right = grid[0]
    names = list(totals)[::-1]
    left.errorbar(
        [totals[n].mean - exact for n in names], range(len(names)), xerr=[totals[n].error for n in names], fmt="o",
        color=BLUE,
    )  # fmt: skip
    left.set(xscale="log")
    left.set_yticks(range(len(names)), names)
    left.set_ylim(-0.6, len(names) - 0.4)
    plain(left, "nats", "")
    left.set_title("bound over the entropy", fontsize=10, color=INK)
    middle.errorbar(
        list(by_length), [m.mean - exact for m in by_length.values()], [m.error for m in by_length.values()],
        fmt="o-", color=BLUE,
    )  # fmt: skip
    middle.set(xscale="log", yscale="log")
    plain(middle, "T", "nats")
    middle.set_title("one denoiser: bound over the entropy", fontsize=10, color=INK)
    oracle, network = bits["oracle"], bits["network"]
    lines = ((oracle, BLUE, "exact belief"), (network, INK, "network"))
    for values, colour, label in lines:
        right.errorbar(
            list(values), [m.mean for m in values.values()], [m.error for m in values.values()], fmt="o-",
            color=colour, label=label,
        )  # fmt: skip
    right.axhline(math.log2(5), color=ORANGE, label="entropy")
    right.set(xscale="log")
    right.legend(frameon=False)
    plain(right, "T", "bits a sequence")
    right.set_title("heartbeats, binomial diffusion", fontsize=10, color=INK)
    figure.savefig(folder / "hierarchy_bounds.png")


def main() -> None:
    """Train the models, print the tables, draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps of training, figures into a temporary folder")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    steps, count = (2, 40) if quick else (2500, 20_000)
    folder = Path(tempfile.mkdtemp()) if quick else IMAGES
    truth = entropy()
    models = hierarchies(steps)
    network = denoising_network(2 * steps)
    models["denoiser, T = 4"] = diffusion(network, 4)
    models["denoiser, T = 256"] = diffusion(network, 256)
    totals = table(models, truth, count)
    by_length = lengths(network, truth, count // 4)
    exact_denoiser(truth, count // 10)
    bits = binomial(2 if quick else 400, 20 if quick else 2000)
    draw_samples(models, folder)
    draw_latents(models, folder)
    draw_bounds(totals, by_length, bits, truth, folder)
    print(f"# figures in {folder}")


if __name__ == "__main__":
    main()
