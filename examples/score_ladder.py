"""The score-matching ladder on densities in the plane: what each rung learns, where it fails, how noise helps.

    python examples/score_ladder.py [--quick]

This trains eight small networks on one thread, prints the numbers of docs/score_matching.md and draws its figures into
docs/images. With --quick it trains for a few steps and draws into a temporary folder.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.core import EDM, VE, Process, Score, SeededNoise, geometric
from sfumato.denoisers import Denoiser, GaussianMixture, NetworkDenoiser
from sfumato.networks import MLP
from sfumato.numerics import random
from sfumato.objectives import Batch, DenoisingLoss, Objective, OneTime, UniformTimes
from sfumato.objectives.score_matching import ExplicitScoreMatching, ImplicitScoreMatching, SlicedScoreMatching
from sfumato.objectives.times import stratify
from sfumato.report.style import to_pixels
from sfumato.sampling import annealed_langevin, run

NONE, MOST = 0.001, 8.0  # sigmas; the smallest is practically no noise
PROCESS = Process(VE(), geometric(NONE, MOST))
LOW, HIGH = 0.1, 2.0
BATCH = 512
REACH = 6.0  # half the side of the square that is shown
IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
BLUE, ORANGE, INK = "#3a86c8", "#d97706", "#444444"

Draw = Callable[[int, int], Tensor]
"""``(count, seed) -> (count, 2)`` samples of the data."""


def modes() -> GaussianMixture:
    """Three modes of standard deviation 0.5, five to six apart, of weights 0.6, 0.3 and 0.1."""
    means = torch.tensor([[-2.5, -2.0], [3.0, -1.5], [0.5, 3.2]], dtype=torch.float64)
    return GaussianMixture.isotropic(means, 0.5, torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64))


def arc() -> GaussianMixture:
    """Three quarters of a circle of radius 3, as 1,000 points: a curve for noise above their spacing, 0.014."""
    angle = torch.linspace(-0.25 * math.pi, 1.25 * math.pi, 1000, dtype=torch.float64)
    return GaussianMixture.isotropic(3 * torch.stack((angle.cos(), angle.sin()), dim=1), 0.0)


def on_the_arc(count: int, seed: int) -> Tensor:
    """Samples of the curve itself."""
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    angle = math.pi * (1.5 * uniform - 0.25)
    return 3 * torch.stack((angle.cos(), angle.sin()), dim=1).float()


def at(sigma: float) -> float:
    """The time at which the noise has this standard deviation."""
    return math.log(sigma / NONE) / math.log(MOST / NONE)


def fit(objective: Objective, draw: Draw, steps: int, unit: float = 1.0) -> tuple[Denoiser, list[float]]:
    """Train with Adam and a learning rate that falls to zero along a cosine.

    A network for one level predicts the score; one for all levels predicts EDM's target, of unit size at each.

    Returns:
        The denoiser, and its losses in units of 1 / unit^2.
    """
    torch.manual_seed(0)
    one = isinstance(objective.times, OneTime)
    network = MLP((2,), width=64, depth=2, embedding="fourier")
    denoiser = NetworkDenoiser(network, PROCESS, Score() if one else EDM(2.5), label="log-ratio", sigma_data=2.5)
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    index, losses = torch.arange(BATCH), []
    for step in range(steps):
        keys = random.keys(random.derive(0, step), index)
        quantiles = stratify(random.uniform(keys, 0, 1)[:, 0], index, BATCH)
        optimiser.zero_grad()
        batch = Batch(draw(BATCH, step), quantiles, SeededNoise(keys))
        loss = objective(denoiser, batch).mean() / unit**2
        loss.backward()
        optimiser.step()
        falling.step()
        losses.append(float(loss.detach()))
    return denoiser.eval(), losses


def train(steps: int) -> dict[str, tuple[Denoiser, list[float]]]:
    """Every model of the figures, by name."""
    truth, curve = modes(), on_the_arc

    def draw(count: int, seed: int) -> Tensor:
        return truth.sample(count, torch.Generator().manual_seed(seed)).float()

    clean, low, high = OneTime(at(NONE)), OneTime(at(LOW)), OneTime(at(HIGH))
    settings: dict[str, tuple[Objective, Draw, int, float]] = {
        "explicit": (ExplicitScoreMatching(clean, truth.predict), draw, steps, NONE),
        "implicit": (ImplicitScoreMatching(clean), draw, steps, NONE),
        "sliced": (SlicedScoreMatching(clean), draw, steps, NONE),
        "denoising, low": (DenoisingLoss(low), draw, steps, LOW),
        "denoising, high": (DenoisingLoss(high), draw, steps, HIGH),
        "denoising, all": (DenoisingLoss(UniformTimes(first=at(LOW))), draw, 3 * steps, 1.0),
        "curve, no noise": (ImplicitScoreMatching(clean), curve, steps, NONE),
        "curve, noise": (ImplicitScoreMatching(OneTime(at(0.3))), curve, steps, 0.3),
    }
    models = {}
    for name, (objective, samples, count, unit) in settings.items():
        start = time.process_time()
        models[name] = fit(objective, samples, count, unit)
        print(f"# {name}: {count} steps in {time.process_time() - start:.0f} s", flush=True)
    return models


# ------------------------------------------------------------------------------------------------------ fields


@torch.no_grad()
def score(denoiser: Denoiser, x: Tensor, sigma: float) -> Tensor:
    """s = -eps_hat / sigma."""
    return -denoiser(x.float(), torch.tensor(at(sigma), dtype=torch.float64)).eps.double() / sigma


def true_score(truth: GaussianMixture, x: Tensor, sigma: float) -> Tensor:
    """The gradient of the log-density of the noisy data."""
    return -truth.predict(x.double(), PROCESS.level(at(sigma))).eps / sigma


def noisy(truth: GaussianMixture, sigma: float, count: int = 10_000) -> Tensor:
    """New samples of the data with noise of this standard deviation."""
    generator = torch.Generator().manual_seed(10**6)
    x_0 = truth.sample(count, generator)
    return x_0 + sigma * torch.randn(x_0.shape, generator=generator, dtype=torch.float64)


def errors(denoiser: Denoiser, truth: GaussianMixture, sigma: float, x: Tensor) -> Tensor:
    """|s_hat - s| / (|s| + its root mean square over the data), so that errors count less where s is near 0."""
    s = true_score(truth, x, sigma)
    usual = true_score(truth, noisy(truth, sigma), sigma).square().sum(1).mean().sqrt()
    return (score(denoiser, x, sigma) - s).norm(dim=1) / (s.norm(dim=1) + usual)


def report(name: str, denoiser: Denoiser, truth: GaussianMixture, sigma: float) -> None:
    """Print the relative error over the data, and the fraction of the square where the field is right to 20 %."""
    x = noisy(truth, sigma)
    s = true_score(truth, x, sigma)
    among = 100 * float(((score(denoiser, x, sigma) - s).square().sum() / s.square().sum()).sqrt())
    right = 100 * float((errors(denoiser, truth, sigma, square(100)) < 0.2).double().mean())
    print(f"| {name} | {sigma:g} | {among:.1f} | {right:.0f} |", flush=True)


def square(count: int) -> Tensor:
    """A grid of count^2 points over the square, row by row."""
    line = torch.linspace(-REACH, REACH, count, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


# ------------------------------------------------------------------------------------------------------ samples


def shares(truth: GaussianMixture, x: Tensor) -> list[float]:
    """The percentage of the points that is nearest to each mode."""
    nearest = (x.double()[:, None] - truth.means).norm(dim=2).argmin(1)
    return [100 * float((nearest == k).double().mean()) for k in range(len(truth.means))]


def walk(denoiser: Denoiser, x: Tensor, steps: int, size: float = 0.05) -> Tensor:
    """Langevin dynamics on the clean score: ``x <- x + size / 2 s(x) + sqrt(size) z``."""
    noise = SeededNoise.samples(1, len(x))
    for k in range(1, steps + 1):
        x = x + size / 2 * score(denoiser, x, NONE).float() + math.sqrt(size) * noise(k, x)
    return x


@torch.no_grad()
def anneal(denoiser: Denoiser, x: Tensor, repeats: int) -> Tensor:
    """Langevin dynamics from the largest of twelve geometric sigmas to the smallest, and a final denoising."""
    levels = torch.linspace(1, at(LOW), 12, dtype=torch.float64)
    times = torch.cat((levels, torch.zeros(1, dtype=torch.float64)))
    return run(denoiser, annealed_langevin(PROCESS, times, repeats), x, noise=SeededNoise.samples(1, len(x)))


# ------------------------------------------------------------------------------------------------------ figures


def new_figure(width: float, height: float, rows: int, columns: int, **more: Any) -> tuple[Any, Any]:
    """A figure with its grid of axes, outside of pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def save(figure: Any, path: Path) -> None:
    """Save the figure with 128 colours, enough for its content."""
    to_pixels(figure, pixels_per_unit=100 / 72).quantize(128).save(path, optimize=True)


def panel(axes: Any, title: str) -> None:
    """Draw a square without tick labels."""
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    for spine in axes.spines.values():
        spine.set_color("#cccccc")


def arrows(axes: Any, field: Callable[[Tensor], Tensor]) -> None:
    """Draw a field; arrows have the square roots of its lengths."""
    x = square(17) * 0.94
    s = field(x)
    s = s / s.norm(dim=1, keepdim=True).clamp(min=1e-9).sqrt()
    # Each panel has its own unit: the fields of different noise levels differ in length by a factor of a hundred.
    s = s / s.norm(dim=1).quantile(0.9)
    axes.quiver(*x.T, *s.T, angles="xy", scale_units="xy", scale=1.7, width=0.0045, color=INK, headwidth=4, pivot="mid")


def shade(axes: Any, values: Tensor) -> Any:
    """Draw relative errors from 1/20 to 1; white is less."""
    from matplotlib.colors import ListedColormap

    count = math.isqrt(len(values))
    line = torch.linspace(-REACH, REACH, count)
    colours = ListedColormap(["#ffffff", "#fdf0d5", "#fbd9a0", "#f3b562", "#e08a3c"])
    grid = values.reshape(count, count).T.clamp(max=50)
    return axes.contourf(line, line, grid, levels=[0, 0.05, 0.1, 0.2, 0.5, 51], colors=colours.colors)


def contours(axes: Any, truth: GaussianMixture, sigma: float) -> None:
    """Draw the lines that enclose 95 % and half of the noisy data."""
    level = PROCESS.level(at(sigma))
    line = torch.linspace(-REACH, REACH, 150)
    density = truth.log_prob(square(150), level).reshape(150, 150).T
    heights = truth.log_prob(noisy(truth, sigma), level).quantile(torch.tensor([0.05, 0.5], dtype=torch.float64))
    axes.contour(line, line, density, levels=heights.tolist(), colors=BLUE, linewidths=1.2, linestyles="solid")


def compared(axes: Any, title: str, denoiser: Denoiser, truth: GaussianMixture, sigma: float) -> Any:
    """Draw a learned field over its relative error."""
    shading = shade(axes, errors(denoiser, truth, sigma, square(150)))
    contours(axes, truth, sigma)
    arrows(axes, lambda x: score(denoiser, x, sigma))
    panel(axes, title)
    return shading


def legend(figure: Any, grid: Any, shading: Any) -> None:
    """Add the colour bar."""
    bar = figure.colorbar(shading, ax=grid, orientation="horizontal", shrink=0.6, aspect=40, pad=0.02)
    bar.ax.set_xticks([0, 0.05, 0.1, 0.2, 0.5, 51], ["0", "5 %", "10 %", "20 %", "50 %", "more"])
    bar.ax.tick_params(labelsize=10, colors=INK)
    bar.set_label("relative error of the field", color=INK, fontsize=10)
    bar.outline.set_edgecolor("#cccccc")


def draw_rungs(models: dict[str, Any], folder: Path) -> None:
    """Draw the true score and the learned ones."""
    truth = modes()
    figure, grid = new_figure(9.6, 7.3, 2, 3)
    first, *places = grid.flat
    x = noisy(truth, NONE, 600)
    first.scatter(*x.T, s=3, color=ORANGE, linewidths=0, alpha=0.7)
    arrows(first, lambda x: true_score(truth, x, NONE))
    panel(first, "data and true score")
    names = [
        ("explicit", NONE), ("implicit", NONE), ("sliced", NONE), ("denoising, low", LOW), ("denoising, high", HIGH)
    ]  # fmt: skip
    for axes, (name, sigma) in zip(places, names, strict=True):
        title = f"denoising, sigma = {sigma:g}" if sigma > NONE else name
        shading = compared(axes, title, models[name][0], truth, sigma)
    legend(figure, grid, shading)
    save(figure, folder / "ladder_rungs.png")


def draw_levels(models: dict[str, Any], folder: Path) -> None:
    """Draw one network at four of its levels."""
    figure, grid = new_figure(9.6, 3.4, 1, 4)
    for axes, sigma in zip(grid[0], (0.1, 0.5, 2.0, 8.0), strict=True):
        shading = compared(axes, f"sigma = {sigma:g}", models["denoising, all"][0], modes(), sigma)
    legend(figure, grid, shading)
    save(figure, folder / "ladder_levels.png")


def draw_curve(models: dict[str, Any], folder: Path) -> None:
    """Draw data on a curve: the implicit objective without noise and with it."""
    truth = arc()
    figure, grid = new_figure(9.6, 3.3, 1, 3, width_ratios=(1.25, 1, 1))
    left, middle, right = grid[0]
    for name, colour, label in (("curve, no noise", ORANGE, "no noise"), ("curve, noise", BLUE, "sigma = 0.3")):
        losses = torch.tensor(models[name][1])
        every = max(1, len(losses) // 100)
        typical = losses[: len(losses) // every * every].reshape(-1, every).median(1).values
        left.plot(every * torch.arange(len(typical)), typical, color=colour, label=label)
    s = true_score(truth, noisy(truth, 0.3), 0.3)
    least = -float(s.square().sum(1).mean()) / 4
    left.axhline(least, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="least at sigma = 0.3")
    left.set_yscale("symlog", linthresh=1)
    left.set_ylim(-1e6, 10)
    left.set_xlabel("step", color=INK)
    left.set_title("implicit objective a dimension", fontsize=11, color=INK, loc="left")
    left.spines[["top", "right"]].set_visible(False)
    left.grid(alpha=0.2)
    left.legend(frameon=False, fontsize=10, loc="lower left")
    x = on_the_arc(400, 1)
    for axes, name, sigma, title in (
        (middle, "curve, no noise", NONE, "learned without noise"),
        (right, "curve, noise", 0.3, "learned at sigma = 0.3"),
    ):
        if sigma > NONE:
            shade(axes, errors(models[name][0], truth, sigma, square(150)))
        axes.scatter(*x.T, s=4, color=BLUE, linewidths=0)
        arrows(axes, lambda x, name=name, sigma=sigma: score(models[name][0], x, sigma))
        panel(axes, title)
    save(figure, folder / "ladder_curve.png")
    for name, sigma, bound in (("curve, no noise", NONE, -math.inf), ("curve, noise", 0.3, least)):
        denoiser, losses = models[name]
        norm = float(score(denoiser, x, sigma).norm(dim=1).mean())
        print(
            f"# {name}: the objective ends at {sum(losses[-50:]) / 50:.4g}, minimum {bound:.4g}; |s| on it {norm:.3g}"
        )


def draw_samples(models: dict[str, Any], folder: Path, count: int, steps: int) -> None:
    """Draw the data, Langevin dynamics on the clean score, and annealed Langevin dynamics."""
    truth = modes()
    start = MOST * SeededNoise.samples(0, count)(0, torch.zeros(count, 2))
    clouds = {
        "data": noisy(truth, NONE, count),
        "Langevin, implicit score": walk(models["implicit"][0], start, steps),
        "annealed, sigma 8 to 0.1": anneal(models["denoising, all"][0], start, max(1, steps // 12)),
    }
    figure, grid = new_figure(9.6, 3.6, 1, 3)
    for axes, (title, x), colour in zip(grid[0], clouds.items(), (ORANGE, BLUE, BLUE), strict=True):
        axes.scatter(*x.T, s=3, color=colour, linewidths=0, alpha=0.6)
        panel(axes, title)
        found = shares(truth, x)
        for mean, fraction in zip(truth.means.tolist(), found, strict=True):
            axes.annotate(
                f"{fraction:.0f} %", mean, (mean[0] + 1.9, mean[1] + 1.1), color=INK, fontsize=11, ha="center"
            )
        far = 100 * float(((x.double()[:, None] - truth.means).norm(dim=2).amin(1) > 2).double().mean())
        print(
            f"# {title}: fractions {', '.join(f'{part:.1f}' for part in found)} %; {far:.1f} % farther than 2 from all"
        )
    save(figure, folder / "ladder_samples.png")


def main() -> None:
    """Train the models, print the numbers, draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps of training, figures into a temporary folder")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp()) if quick else IMAGES
    models = train(3 if quick else 1500)
    truth = modes()
    print("\n| model | sigma | error where the data is, % | of the square right to 20 %, % |\n|---|---|---|---|")
    for name in ("explicit", "implicit", "sliced"):
        report(name, models[name][0], truth, NONE)
    report("denoising", models["denoising, low"][0], truth, LOW)
    report("denoising", models["denoising, high"][0], truth, HIGH)
    for sigma in (0.1, 0.5, 2.0, 8.0):
        report("denoising, one network", models["denoising, all"][0], truth, sigma)
    draw_rungs(models, folder)
    draw_levels(models, folder)
    draw_curve(models, folder)
    draw_samples(models, folder, 50 if quick else 2000, 24 if quick else 600)
    print(f"# figures in {folder}")


if __name__ == "__main__":
    main()
