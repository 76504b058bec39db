"""Charts of training: the loss over time and over noise levels, what the loss weights, speed."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt

from ..run import Row, number, series
from ..style import BLUE, GRAY, HALF, ORANGE, PALE, Axes, new_figure, plain_log, styled, to_svg

Floats = npt.NDArray[np.float64]

_MOST_POINTS = 600  # of a training curve
_LOOKS = ((BLUE, "-"), (ORANGE, (0, (4, 2))), (GRAY, "-"), (BLUE, (0, (1, 1))), (ORANGE, (0, (1, 1))))
_LOG_FROM = 3.0  # values that span less than this factor are easier to read on a linear axis


def loss_curves(train: list[Row], held_out: list[Row], noun: str = "images", loss_name: str = "loss") -> str:
    """Draw the loss of training steps, raw and smoothed, and the measured losses, against images seen."""
    with styled():
        figure = new_figure(*HALF)
        axes = figure.subplots()
        shown = []
        seen, loss = _finite(series(train, "images"), series(train, "loss"))
        if len(seen):
            axes.plot(*_thinned(seen, loss), color=GRAY, alpha=PALE, linewidth=0.8)
            axes.plot(*_thinned(seen, smoothed(loss)), color=GRAY, linewidth=1.4, label="training steps (smoothed)")
            shown.append(loss)
        for key, label, colour, dashes in (
            ("train_loss", "training data", ORANGE, (0, (4, 2))),
            ("loss", "held-out data", BLUE, "-"),
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


def held_out_curves(runs: Sequence[tuple[str, list[Row]]], noun: str = "images", loss_name: str = "loss") -> str:
    """Draw the held-out losses of several runs, each with its name, against images seen."""
    with styled():
        figure = new_figure(*HALF)
        axes = figure.subplots()
        shown = []
        for (name, rows), (colour, dashes) in zip(runs, cycle(_LOOKS)):
            seen, loss = _finite(series(rows, "images"), series(rows, "loss"))
            if len(seen):
                axes.plot(seen, loss, color=colour, linestyle=dashes, label=name)
                shown.append(loss)
        _loss_axis(axes, shown, loss_name)
        axes.set_xlabel(f"{noun} seen")
        _in_thousands(axes)
        _legend(axes)
        return to_svg(figure, "runs", "Held-out loss of several runs.")


def loss_by_level(held_out: list[Row]) -> str:
    """Draw the loss at each noise level: held-out data first and last, training data last."""
    first, last = held_out[0], held_out[-1]
    alone = number(first, "images") == number(last, "images")
    with styled():
        figure = new_figure(*HALF)
        axes = figure.subplots()
        shown = []
        for row, key, label, colour, opacity, dashes in (
            (first, "loss", "held-out data, first", BLUE, PALE, "-"),
            (last, "train_loss", "training data, last", ORANGE, 1.0, (0, (4, 2))),
            (last, "loss", "held-out data, last", BLUE, 1.0, "-"),
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
    """Draw learning rate and throughput against images seen, side by side."""
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


def relative_weight(row: Row) -> str:
    """Draw the weight of the loss relative to the ELBO against the log-SNR, scaled to a maximum of 1."""
    pairs = np.array(row["relative_weight"], dtype=np.float64)
    pairs = pairs[np.isfinite(pairs).all(1)]
    order = np.argsort(pairs[:, 0])
    with styled():
        figure = new_figure(*HALF)
        axes = figure.subplots()
        axes.plot(pairs[order, 0], pairs[order, 1] / max(float(pairs[:, 1].max()), 1e-300), color=BLUE)
        axes.axhline(1.0, color=GRAY, linestyle=(0, (2, 3)), linewidth=1.2)
        axes.set(xlabel="log-SNR  (← noise, data →)", ylabel="weight relative to the ELBO", ylim=(0, 1.08))
        return to_svg(figure, "relative_weight", "The weight of the loss relative to the ELBO, against the log-SNR.")


def smoothed(values: Floats) -> Floats:
    """Return the centred running mean (n,) over a twentieth of ``values`` (n,), narrower towards the ends."""
    half = len(values) // 40
    total = np.concatenate(([0.0], np.cumsum(values)))
    at = np.arange(len(values))
    first, after = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    mean: Floats = (total[after] - total[first]) / (after - first)
    return mean


def _finite(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    keep = np.isfinite(x) & np.isfinite(y)
    return x[keep], y[keep]


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """At most 600 points: means over equally long groups of neighbours."""
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
        plain_log(axes)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:  # without a finite number there is no curve, and matplotlib would warn
        axes.legend()


def _in_thousands(axes: Axes) -> None:
    from matplotlib.ticker import EngFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
