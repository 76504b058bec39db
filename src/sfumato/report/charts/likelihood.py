"""The figure of ``sfumato likelihood``: which samples are likely, where the bits go, and what they buy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from sfumato.data.spec import DataSpec

from ..image_grid import Values
from ..pictures import picture
from ..style import BLUE, GRAY, INK_ON_WHITE, ORANGE, PALE, THIRD, Axes, new_figure, styled, to_pixels, to_svg

_WIDTH = 940
_BINS = 32


def likelihood_figure(record: Mapping[str, Any], most: Values, least: Values, spec: DataSpec) -> Image.Image:
    """Draw bits/dim of the samples; where the model spends them; rate and distortion; the ends of the ranking.

    A model without noise levels has only the first and the last of these.

    Arguments:
        record: the content of likelihood.json.
        most: the most likely samples (n, *shape), in data units.
        least: the least likely samples.
        spec: the data contract.
    """
    with styled(INK_ON_WHITE):
        figure = new_figure(_WIDTH, 660)
        halves: Any = figure.subfigures(2, 1, height_ratios=[3, 4])
        top, bottom = halves
        curve = record["rate_distortion"]
        if curve is None:
            _histogram(top.subplots(1, 1), record)
        else:
            histogram, spent, coding = top.subplots(1, 3)
            _histogram(histogram, record)
            _spent(spent, curve)
            _coding(coding, curve, record["deviation"], record["unit"])
        panels = bottom.subplots(1, 2)
        names = ("most likely", "least likely")
        for axes, name, values, key in zip(panels, names, (most, least), ("most", "least"), strict=True):
            low, high = record[key]["bits"][0], record[key]["bits"][-1]
            axes.imshow(np.asarray(picture(values, spec).convert("RGB")), interpolation="nearest")
            axes.set(title=f"{name}: {low:.2f} to {high:.2f} bits/dim")
            axes.set_axis_off()
        return to_pixels(figure)


def likelihood_charts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Draw the same without the ranking, each as an SVG with its caption."""
    drawn = []
    with styled():

        def chart(name: str, caption: str, alt: str, draw: Callable[[Axes], None]) -> None:
            figure = new_figure(*THIRD)
            draw(figure.subplots())
            drawn.append((to_svg(figure, name, alt), caption))

        chart(
            "bits",
            "Samples on the right are unlikely under the model: look there for outliers and for errors in the data.",
            "Histogram of bits per dimension of the samples.",
            lambda axes: _histogram(axes, record),
        )
        curve = record["rate_distortion"]
        if curve is not None:
            chart(
                "where_the_bits_go",
                "High where the model is surprised: left is coarse structure, right is detail and noise.",
                "Bits per dimension and unit of log-SNR against the log-SNR.",
                lambda axes: _spent(axes, curve),
            )
            chart(
                "coding",
                "Bits received so far, and how far the best guess is then from the truth.",
                "Rate and distortion against time.",
                lambda axes: _coding(axes, curve, record["deviation"], record["unit"]),
            )
    return drawn


def _histogram(axes: Axes, record: Mapping[str, Any]) -> None:
    sets: list[tuple[str, Sequence[float], str]] = [("this data", record["bits"], BLUE)]
    if record["against"] is not None:
        sets.append((record["against"]["name"], record["against"]["bits"], ORANGE))
    everything = np.concatenate([np.asarray(bits) for _, bits, _ in sets])
    edges = list(np.histogram_bin_edges(everything, bins=min(40, max(8, int(np.sqrt(len(everything)) * 2)))))
    for name, bits, colour in sets:
        axes.hist(bits, edges, color=colour, alpha=0.75, label=name, weights=np.full(len(bits), 1 / len(bits)))
    axes.set(title="bits/dim per sample (bound)", ylabel="fraction of samples")
    if len(sets) > 1:
        axes.legend()


def _spent(axes: Axes, curve: Mapping[str, Sequence[float]]) -> None:
    logsnr = np.asarray(curve["logsnr"])
    edges = np.linspace(logsnr[0], logsnr[-1], _BINS + 1)
    spent = np.diff(np.interp(edges, logsnr, curve["rate"])) / np.maximum(np.diff(edges), 1e-9)
    axes.stairs(spent, edges, fill=True, color=BLUE, alpha=PALE)
    axes.stairs(spent, edges, color=BLUE)
    axes.set(title="where the bits go", xlabel="log-SNR (noise to data)", ylabel="bits/dim per unit")
    axes.set_ylim(bottom=0)


def _coding(axes: Axes, curve: Mapping[str, Sequence[float]], deviation: float, unit: str) -> None:
    time = 1 - np.asarray(curve["t"])
    axes.plot(time, curve["rate"], color=BLUE)
    axes.set(title="progressive coding", xlabel="1 − t (noise to data)", xlim=(0, 1))
    axes.set_ylabel("rate, bits/dim", color=BLUE)
    axes.set_ylim(bottom=0)
    other = axes.twinx()
    other.plot(time, curve["rmse"], color=ORANGE)
    other.set_ylabel(f"distortion, RMSE{unit}", color=ORANGE)
    # Near pure noise an estimate of x_0 can be far off; one with an error of the data's own size is useless anyway.
    other.set_ylim(0, min(1.05 * max(curve["rmse"]), 2 * deviation))
    other.grid(False)
    other.spines["right"].set(visible=True, color=GRAY)
