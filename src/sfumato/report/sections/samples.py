"""The sections about the samples: beside real data, beside their nearest training samples, from noise to data."""

import math
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from .. import html, text
from ..charts.distances import distances
from ..drawings import drawing_of
from ..drawings.base import Pairs, Path
from ..image_grid import Values
from ..pictures import animate
from ..run import Run, number
from ..verdict import NEAR, good_samples

_WIDEST = 800  # pixels of a film
_HEAVY_STILL = 100_000  # bytes
# Ratios of median distances, samples over held-out data, at which the wording changes.
_COPIED, _CLOSE, _FAR = 0.5, 0.8, 1.25


def samples(run: Run) -> str:
    """Samples beside real data."""
    drawn, real = run.gallery.get("samples"), run.gallery.get("real")
    if drawn is None:
        what = "No samples yet" if run.gallery else "No samples, nearest training samples or trajectories yet"
        return html.section("Samples", html.missing(what, run.command("report")))
    return html.section("Samples", drawing_of(run.spec).samples(drawn, real, run.spec, _how_drawn(run.sampler)))


def _how_drawn(sampler: dict[str, Any]) -> str:
    """How the samples were drawn, according to ``gallery.json``."""
    settings = [escape(sampler["sampler"])] if isinstance(sampler.get("sampler"), str) else []
    latents = number(sampler, "latents")
    if math.isfinite(latents):
        settings.append(f"{text.figure(latents, 12)} latent{'' if latents == 1 else 's'}")
    for key, words in (
        ("steps", "{} steps"),
        ("eta", "eta {}"),
        ("evaluations", "{} evaluations"),
        ("seed", "seed {}"),
    ):
        value = number(sampler, key)
        if math.isfinite(value):
            settings.append(words.format(text.figure(value, 12)))
    seconds = number(sampler, "seconds")
    if math.isfinite(seconds):
        settings.append(f"{text.duration(seconds)} in total")
    return f"Drawn with {', '.join(settings)}; not hand-picked." if settings else "Not hand-picked."


def nearest(run: Run) -> str:
    """Samples with their nearest training samples, which shows whether the model copies. Empty without a gallery."""
    if not run.gallery:
        return ""
    title, drawing = "Nearest training samples", drawing_of(run.spec)
    drawn, found, distance = (run.gallery.get(name) for name in ("samples", "neighbours", "distances"))
    if drawn is None or found is None or distance is None:
        return html.section(title, html.missing("No nearest training samples yet", run.command("report")))
    held_out = run.gallery.get("held_out_distances")
    count = min(drawing.num_pairs, len(drawn), len(found), len(distance))
    curve = html.figure(
        distances(distance, held_out),
        "A curve to the left of the held-out one means that samples are closer to the training data than new real "
        "data is.",
    )
    pairs = Pairs(drawn[:count], found[:count], distance[:count])
    shown = drawing.neighbours(pairs, run.gallery.get("real"), run.spec, curve)
    return html.section(title, f"<p>{copying(distance, held_out, good_samples(run))}</p>{shown}")


def copying(distance: Values, held_out: Values | None, good: float = math.nan) -> str:
    """The comparison of median distances in words.

    Arguments:
        distance: from samples to their nearest training samples.
        held_out: the same for held-out data.
        good: the share of good samples. What is no sample yet copies nothing, and that is no merit.
    """
    ours, count = float(np.median(distance)), text.count(len(distance))
    units = "root mean square per value, model units"
    start = f"The median distance of {count} samples to their nearest training samples is {text.figure(ours)}"
    if held_out is None:
        return f"{start} ({units}). There is no held-out data to compare it with."
    theirs = float(np.median(held_out))
    ratio = ours / theirs if theirs > 0 else math.inf if ours > 0 else 1.0
    if good < NEAR and ratio >= _COPIED:
        return (
            f"{start}; of {text.count(len(held_out))} held-out real ones it is {text.figure(theirs)} ({units}). That "
            "says nothing about copying, because the samples are not near the data yet."
        )
    if ratio < _COPIED:
        words = "far closer to the training data than new real data is: the model copies its training data"
    elif ratio < _CLOSE:
        words = "closer to the training data than new real data is: some may be near-copies, so look at the pairs"
    elif ratio <= _FAR:
        words = "as far from the training data as new real data is: there is no sign of copying"
    else:
        words = (
            "farther from the training data than new real data is: there is no sign of copying, but they may not look "
            "like real data"
        )
    real = f"of {text.count(len(held_out))} held-out real ones it is {text.figure(theirs)}"
    return f"{start}; {real} ({units}). Samples are {words}."


def trajectory(run: Run) -> str:
    """Samples from noise to data, as a strip and as an animation. Empty without a gallery or without a process."""
    if not run.gallery or run.process is None:
        return ""
    title = "From noise to data"
    states, estimates, logsnr = (run.gallery.get(f"trajectory_{name}") for name in ("x", "x_0", "logsnr"))
    if states is None or estimates is None or logsnr is None or not len(states) == len(estimates) == len(logsnr):
        return html.section(title, html.missing("No trajectories yet", run.command("report")))
    lead = (
        "<p>The sampler starts from noise and moves to lower noise levels. At each level the model estimates the clean "
        "sample, x̂<sub>0</sub>, from the noisy state x<sub>t</sub>: coarse structure first, detail last.</p>"
    )
    path, drawing, real = Path(states, estimates, logsnr), drawing_of(run.spec), run.gallery.get("real")
    strip = drawing.strip(path.at_most(drawing.num_levels), real, run.spec)
    caption = "States are divided by √(α² + σ²), so that noise and data have the same scale."
    return html.section(title, lead + html.figure(strip, caption, wide=True) + _film(run, path))


def _film(run: Run, path: Path) -> str:
    """An animation, with a still for readers who prefer no motion, and for paper."""
    drawing = drawing_of(run.spec)
    film = drawing.film(path.at_most(drawing.num_frames), run.gallery.get("real"), run.spec)
    for frame in film.pictures:
        frame.thumbnail((_WIDEST, _WIDEST), Image.Resampling.LANCZOS)
    speed = float(np.clip(len(film.pictures) / 4, 6, 15))
    moving = text.uri(animate(film.pictures, "WEBP", speed, film.lossless), "image/webp")
    still = text.image_uri(film.pictures[-1], heavy=_HEAVY_STILL)
    width, height = film.pictures[0].size
    return html.figure(
        '<picture><source media="print, (prefers-reduced-motion: reduce)" '
        f'srcset="{still}"><img class="{film.style}" src="{moving}" '
        f'style="width:100%;max-width:{film.enlargement * width:.0f}px" width="{width}" height="{height}" '
        'alt="Animation of the samples on their way from noise to data"></picture>',
        film.caption,
    )
