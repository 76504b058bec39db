"""The report's figures as inline SVG: training, noise levels, the process, distances, and plots of the data itself."""

import numpy as np
import numpy.typing as npt
import torch

from sfumato.core import Chain, Process
from sfumato.data.spec import DataSpec

from . import text
from .images import Values
from .plots import draw, lines, panels, reach, scatter
from .run import Row, number, series
from .style import BLUE, GRAY, ORANGE, PALE, Axes, new_figure, styled, to_svg

Floats = npt.NDArray[np.float64]

_HALF = (480, 300)  # half the page's width
_THIRD = (340, 260)
_MOST_POINTS = 600  # of a raw training curve
_LOG_FROM = 3.0  # values that span less than this factor are read better on a linear axis


def loss_curves(train: list[Row], held_out: list[Row], noun: str = "images", loss_name: str = "loss") -> str:
    """Training loss, raw and smoothed, and the held-out loss with its train twin, against images seen."""
    with styled():
        figure = new_figure(*_HALF)
        axes = figure.subplots()
        shown = []
        seen, loss = _finite(series(train, "images"), series(train, "loss"))
        if len(seen):
            axes.plot(*_thinned(seen, loss), color=GRAY, alpha=PALE, linewidth=0.8)
            axes.plot(*_thinned(seen, smoothed(loss)), color=GRAY, linewidth=1.4, label="training steps, smoothed")
            shown.append(loss)
        for key, label, colour, dashes in (
            ("train_loss", "training data, measured", ORANGE, (0, (4, 2))),
            ("loss", "held-out data, measured", BLUE, "-"),
        ):
            seen, loss = _finite(series(held_out, "images"), series(held_out, key))
            if len(seen):
                marker = "o" if len(seen) <= 40 else None
                axes.plot(seen, loss, color=colour, linestyle=dashes, marker=marker, markersize=3.5, label=label)
                shown.append(loss)
        _loss_axis(axes, shown, loss_name)
        axes.set_xlabel(f"{noun} seen")
        _in_thousands(axes)
        _legend(axes)
        return to_svg(figure, "loss", f"Loss against {noun} seen, for training steps, held-out data and training data.")


def loss_by_level(held_out: list[Row]) -> str:
    """The held-out loss at each noise level, first and last measurement, and the last one's train twin."""
    first, last = held_out[0], held_out[-1]
    alone = number(first, "images") == number(last, "images")
    with styled():
        figure = new_figure(*_HALF)
        axes = figure.subplots()
        shown = []
        for row, key, label, colour, opacity, dashes in (
            (first, "loss", "held-out, first measurement", BLUE, PALE, "-"),
            (last, "train_loss", "training data, last", ORANGE, 1.0, (0, (4, 2))),
            (last, "loss", "held-out, last measurement", BLUE, 1.0, "-"),
        )[alone:]:
            logsnr, loss = _finite(series(row["levels"], "logsnr"), series(row["levels"], key))
            if len(logsnr):
                axes.plot(
                    logsnr, loss, color=colour, alpha=opacity, linestyle=dashes, marker="o", markersize=3.5, label=label
                )
                shown.append(loss)
        _loss_axis(axes, shown)
        axes.set_xlabel("log-SNR  (← noise, data →)")
        _legend(axes)
        return to_svg(figure, "levels", "Loss against log-SNR for the first and the last measurement.")


def pace(train: list[Row], noun: str = "images") -> str:
    """Learning rate and throughput against images seen, side by side."""
    with styled():
        figure = new_figure(720, 200)
        for axes, key, label in zip(
            figure.subplots(1, 2),
            ("learning_rate", "images_per_second"),
            ("learning rate", f"{noun} per second"),
            strict=True,
        ):
            seen, value = _finite(series(train, "images"), series(train, key))
            axes.plot(*_thinned(seen, value), color=BLUE, linewidth=1.4)
            axes.set(xlabel=f"{noun} seen", title=label, ylim=(0, 1.1 * float(value.max(initial=0)) or 1))
            _in_thousands(axes)
        return to_svg(figure, "pace", f"Learning rate and {noun} per second against {noun} seen.")


def schedule(process: Process) -> list[str]:
    """Three figures of a process: alpha and sigma against t, the log-SNR against t, and where its levels lie."""
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    level = process.level(t)
    alpha, sigma, logsnr = (part.detach().numpy() for part in (level.alpha, level.sigma, level.logsnr))
    clock = process.schedule
    chain = clock.steps if isinstance(clock, Chain) else None
    times = torch.arange(1, chain + 1, dtype=torch.float64) / chain if chain else (t[1:] + t[:-1]) / 2
    visited = process.level(times).logsnr.detach().numpy()
    drawn = []
    with styled():
        figure = new_figure(*_THIRD)
        axes = figure.subplots()
        axes.plot(t, alpha, color=BLUE, label="α, signal")
        axes.plot(t, sigma, color=ORANGE, label="σ, noise", linestyle=(0, (4, 2)))
        if sigma.max() > 5:
            axes.set_yscale("log")
            _plain_log(axes)
        axes.set(xlabel="t", ylabel="scale")
        axes.legend()
        drawn.append(to_svg(figure, "scales", "Signal and noise scale against t."))

        figure = new_figure(*_THIRD)
        axes = figure.subplots()
        axes.plot(*_finite(t.numpy(), logsnr), color=BLUE)
        axes.set(xlabel="t  (0 data, 1 noise)", ylabel="log-SNR (nats)")
        drawn.append(to_svg(figure, "logsnr", "The log-SNR against t, falling from data to noise."))

        figure = new_figure(*_THIRD)
        axes = figure.subplots()
        visited = visited[np.isfinite(visited)]
        axes.hist(visited, bins=int(np.clip(len(visited) // 8, 6, 40)), density=True, color=BLUE, alpha=0.45)
        if len(visited) <= 100:
            axes.plot(visited, np.zeros_like(visited), "|", color=ORANGE, markersize=9, clip_on=False)
        axes.set(xlabel="log-SNR  (← noise, data →)", ylabel=f"share of {chain} levels" if chain else "share of times")
        drawn.append(to_svg(figure, "density", "Where the levels of the process lie, as a density over log-SNR."))
    return drawn


def relative_weight(row: Row) -> str:
    """What the loss looks at: its weight relative to the ELBO against the log-SNR, the greatest 1."""
    pairs = np.array(row["relative_weight"], dtype=np.float64)
    pairs = pairs[np.isfinite(pairs).all(1)]
    order = np.argsort(pairs[:, 0])
    with styled():
        figure = new_figure(*_HALF)
        axes = figure.subplots()
        axes.plot(pairs[order, 0], pairs[order, 1] / max(float(pairs[:, 1].max()), 1e-300), color=BLUE)
        axes.axhline(1.0, color=GRAY, linestyle=(0, (2, 3)), linewidth=1.2)
        axes.set(xlabel="log-SNR  (← noise, data →)", ylabel="weight, relative to the bound's", ylim=(0, 1.08))
        return to_svg(figure, "relative_weight", "The weight of the loss relative to the ELBO, against the log-SNR.")


def distances(sampled: Values, held_out: Values | None) -> str:
    """Cumulative shares of the distances to the nearest training sample, of samples and of held-out real data."""
    with styled():
        figure = new_figure(*_HALF)
        axes = figure.subplots()
        for values, label, colour, dashes in (
            (held_out, "held-out real data", ORANGE, (0, (4, 2))),
            (sampled, "samples", BLUE, "-"),
        ):
            if values is not None:
                axes.ecdf(values, color=colour, linestyle=dashes, label=label)
        axes.set(xlabel="distance to the nearest training sample (model units)", ylabel="share nearer", xlim=(0, None))
        axes.legend()
        return to_svg(figure, "distances", "Cumulative distribution of distances to the nearest training sample.")


def comparison(samples: Values, real: Values | None, spec: DataSpec) -> str:
    """Samples of signals or vectors beside real data."""
    with styled():
        return to_svg(draw(panels(samples, spec, real), spec), "samples", "Samples of the model beside real data.")


def neighbours(samples: Values, nearest: Values, distance: Values, spec: DataSpec) -> str:
    """Signals, or points of a plane, with the training sample that lies nearest to each."""
    with styled():
        if spec.layout.name == "vector":
            figure = new_figure(*_HALF)
            axes = figure.subplots()
            for a, b in zip(samples, nearest, strict=True):
                axes.plot([a[0], b[0]], [a[1], b[1]], color=GRAY, linewidth=0.8)
            scatter(axes, nearest[:, 0], nearest[:, 1], ORANGE)
            scatter(axes, samples[:, 0], samples[:, 1], BLUE)
            axes.set_aspect("equal", adjustable="datalim")
            axes.set(xlabel="first feature", ylabel="second feature")
        else:
            figure = new_figure(960, 300)
            grid = figure.subplots(2, 4, sharex=True, sharey=True)
            for axes in grid.flat[len(samples) :]:
                axes.set_visible(False)
            for axes, a, b, d in zip(grid.flat, samples, nearest, distance, strict=False):
                lines(axes, b, ORANGE, 0.9)
                lines(axes, a, BLUE, 0.9)
                axes.set_title(f"distance {d:.3g}")
            figure.supxlabel("position", fontsize=12)
        return to_svg(figure, "neighbours", "Samples with the nearest training sample of each.")


def strip(states: Values, estimates: Values, logsnr: Values, spec: DataSpec) -> str:
    """Signals or vectors from noise to data: a row of states, a row of estimates of x_0, a column a level."""
    pooled = np.concatenate([states.reshape(-1, *spec.shape), estimates.reshape(-1, *spec.shape)])
    with styled():
        figure = new_figure(960, 340)
        grid = figure.subplots(2, len(logsnr), sharex=True, sharey=True, squeeze=False)
        for row, (frames, label) in enumerate(((states, "state"), (estimates, "estimate"))):
            grid[row, 0].set_ylabel(label)
            for axes, frame in zip(grid[row], frames, strict=True):
                _small(axes, frame, spec, BLUE if row else GRAY)
        for axes, value in zip(grid[0], logsnr, strict=True):
            axes.set_title(f"log-SNR {text.signed(float(value))}")
        if spec.layout.name == "signal":
            grid[0, 0].set_ylim(reach(pooled))
        else:
            grid[0, 0].set_xlim(reach(pooled[:, 0]))
            if spec.shape[0] > 1:
                grid[0, 0].set_ylim(reach(pooled[:, 1]))
            else:
                grid[0, 0].set_yticks([])
        return to_svg(figure, "strip", "States and estimates of x_0 from noise to data.")


def smoothed(values: Floats) -> Floats:
    """A centred running mean over a twentieth of ``values``, narrower towards the ends; shape (n,) to (n,)."""
    half = len(values) // 40
    total = np.concatenate(([0.0], np.cumsum(values)))
    at = np.arange(len(values))
    first, after = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    mean: Floats = (total[after] - total[first]) / (after - first)
    return mean


def _small(axes: Axes, values: Values, spec: DataSpec, colour: str) -> None:
    if spec.layout.name == "signal":
        lines(axes, values[:, 0], colour)
    elif spec.shape[0] == 1:
        axes.plot(values[:, 0], np.arange(len(values)), ".", color=colour)
    else:
        scatter(axes, values[:, 0], values[:, 1], colour)


def _finite(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    keep = np.isfinite(x) & np.isfinite(y)
    return x[keep], y[keep]


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """At most 600 points: means over equal runs of neighbours."""
    if len(x) <= _MOST_POINTS:
        return x, y
    edges = np.linspace(0, len(x), _MOST_POINTS + 1).astype(int)
    count = np.diff(edges)
    return np.add.reduceat(x, edges[:-1]) / count, np.add.reduceat(y, edges[:-1]) / count


def _loss_axis(axes: Axes, shown: list[Floats], name: str = "loss") -> None:
    axes.set_ylabel(name)
    values = np.concatenate([*shown, np.empty(0)])
    if values.size and values.min() > 0 and values.max() > _LOG_FROM * values.min():
        axes.set_yscale("log")
        _plain_log(axes)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:  # of no finite number at all there is no curve, and matplotlib would warn
        axes.legend()


def _plain_log(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _in_thousands(axes: Axes) -> None:
    from matplotlib.ticker import EngFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
